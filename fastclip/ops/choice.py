"""Choose the backend that computes: the named one or, for "auto", the first suitable one.

Of the backends for a GPU, "auto" takes the fastest that is known to be correct on that GPU
(`backends/gpu/known.py`). Where nothing is known about a backend in CHECKED_AT_FIRST_USE, the first
call checks it (`first_use.py`). A choice on a GPU is made once per process, for each device, dtype,
class of D and float32_matmul_precision. No environment variable and no installed package changes
what a named backend computes.
"""

import functools
import importlib
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.backends import native
from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import known, verified
from fastclip.backends.gpu.known import ADVICE, Finding, Kind
from fastclip.backends.gpu.precision import planes_for

# The order of "auto", fastest first; of the backends for a GPU it takes the one that `known.py`
# names, or none. `reference` always runs.
ORDER = ("cpu", "triton", "cuda", "chunked", "reference")

# A compiler wrote the synchronisation of these kernels. Kernels that people wrote could hang a
# first call: `fastclip verify` checks them, in processes that it can kill.
CHECKED_AT_FIRST_USE = ("triton",)

_one_decides = threading.RLock()


def constant_for_the_compiler(function: Callable) -> Callable:
    """Mark a function whose result does not change within a process: torch.compile calls it once.

    This sets the mark of `torch.compiler.assume_constant_result`, which itself would import the
    compiler and add 0.9 s to `import fastclip`.
    """
    function._dynamo_marked_constant = True
    return function


@functools.cache
def load_backend(name: str) -> ModuleType:
    """Import a backend by name; raise ValueError if there is none of this name."""
    if name not in ORDER:
        raise ValueError(f"backend must be one of {ORDER}, got {name!r}")
    return importlib.import_module(f"fastclip.backends.{name}")


def objection(
    name: str, device_type: str, dtype: torch.dtype, leaves_out: bool = False
) -> str | None:
    """Return why a backend cannot take such a rectangle, or None if it can.

    Args:
        leaves_out: whether the rectangle leaves out entries.
    """
    backend = load_backend(name)
    if leaves_out and not hasattr(backend, "TAKES_INTERVALS"):
        return "it cannot leave out columns (Rectangle.excluded); 'chunked' can"
    return backend.unsupported(device_type, dtype)


class Request(NamedTuple):
    """The kind of inputs that a backend is chosen for; `request_for` makes it.

    Args:
        D: the class of D for GPU kernels, `verified.dim_class`; 0 on a CPU.
        planes: `precision.planes_for` the dtype.
        primitive: "contrastive_lse", "siglip_sum" or "siglip_total".
        leaves_out: whether the rectangle leaves out entries.
    """

    device: torch.device
    dtype: torch.dtype
    D: int
    planes: int
    primitive: str = "contrastive_lse"
    leaves_out: bool = False

    def objection(self, name: str) -> str | None:
        return objection(name, self.device.type, self.dtype, self.leaves_out)

    def kernels(self) -> dict[str, str]:
        """Map each backend for a GPU that would run if named to its variant."""
        if not gpu_device.is_gpu(self.device):
            return {}
        names = (name for name in ORDER if _is_for_gpu(name) and self.objection(name) is None)
        return {name: load_backend(name).variant_on(self.device) for name in names}

    @property
    def kind(self) -> Kind:
        dtype = str(self.dtype).removeprefix("torch.")
        return Kind(self.device, dtype, self.D, self.primitive, self.planes)


def request_for(features: Tensor | None = None) -> Request:
    """Return the request for features (M, D); without features, for float32 on the CPU."""
    if features is None:
        features = torch.empty(0)
    return request(features.device, features.dtype, features.shape[-1])


def request(device: torch.device, dtype: torch.dtype, D: int) -> Request:
    return Request(device, dtype, _dim_class(device, D), planes_for(dtype))


def _dim_class(device: torch.device, D: int) -> int:
    """Return the class of D on a GPU and 0 on a CPU, where D may be a symbol of the compiler."""
    return verified.dim_class(D) if gpu_device.is_gpu(device) else 0


def explain_backends(image_features: Tensor | None = None) -> dict[str, str | None]:
    """Say for each backend, in the order of "auto", why "auto" does not take it.

    This runs no kernel and writes nothing.

    Args:
        image_features: (B, D), any device and dtype; without it, float32 features on the CPU.

    Returns:
        A mapping from each backend's name to a sentence, or to None if "auto" may take it; "auto"
        takes the first of these. The sentence says why the backend cannot run here, or, if it would
        run when named, why "auto" does not take it (nothing has verified it on this GPU, its check
        failed, or another one is faster) and which command changes that. `triton` may be taken
        without being verified: it is compared with `chunked` at its first use, and taken if both
        agree.

    Example:
        >>> fastclip.explain_backends(torch.zeros(8, 512, device="cuda"))["cuda"]
        "The backend 'cuda' would run here, but nothing has verified it on this GPU (NVIDIA H200,
        float32, D up to 512); run `fastclip verify` (a few minutes at most)."
    """
    return reasons(request_for(image_features))


def reasons(wanted: Request) -> dict[str, str | None]:
    """Return what `explain_backends` returns, for a request."""
    kernels = wanted.kernels()
    found = known.findings(wanted.kind, kernels) if kernels else {}
    to_check = _to_check(kernels, found)

    def reason_against(name: str) -> str | None:
        if (why_not := wanted.objection(name)) is not None:
            return f"The backend '{name}' cannot run here: {why_not}."
        if not _is_for_gpu(name) or (name in to_check and name not in found):
            return None
        if name not in kernels:
            return (
                f"The backend '{name}' is for GPUs. On a CPU its kernels are emulated for tests, "
                "and they run only if the backend is named."
            )
        return known.reason_against(name, wanted.kind, kernels, found)

    return {name: reason_against(name) for name in ORDER}


def checked_at_first_use(wanted: Request) -> tuple[str, ...]:
    """Return the backends that a first call with "auto" would compare with `chunked`."""
    kernels = wanted.kernels()
    return _to_check(kernels, known.findings(wanted.kind, kernels)) if kernels else ()


def available_backends(image_features: Tensor | None = None) -> tuple[str, ...]:
    """Return the backends that would run such inputs if named, in the order of "auto".

    Args:
        image_features: (B, D), any device and dtype; without it, float32 features on the CPU.

    Example:
        >>> "reference" in fastclip.available_backends(torch.randn(8, 16))
        True
    """
    wanted = request_for(image_features)
    return tuple(name for name in ORDER if wanted.objection(name) is None)


def resolve_backend(
    name: str,
    row_features: Tensor,
    primitive: str = "contrastive_lse",
    leaves_out: bool = False,
) -> str:
    """Return the backend to call for features like `row_features`, which are valid.

    On a GPU the choice is stored and looked up later, per float32_matmul_precision of torch.

    Args:
        name: a backend, or "auto".
        primitive, leaves_out: as in `Request`.

    Raises:
        ValueError: `name` is unknown.
        RuntimeError: the named backend cannot take these inputs; the message says why.
            Or a check at a first use with "auto" lost the GPU's context.
    """
    device, D = row_features.device, row_features.shape[-1]
    return _resolve(name, device, row_features.dtype, _dim_class(device, D), primitive, leaves_out)


@constant_for_the_compiler  # with flat arguments: the compiler has no constants of class Request
def _resolve(
    name: str, device: torch.device, dtype: torch.dtype, D: int, primitive: str, leaves_out: bool
) -> str:
    wanted = Request(device, dtype, D, planes_for(dtype), primitive, leaves_out)
    if wanted.D == 0:
        return _decide(name, wanted)[0]
    asked = name, wanted
    if (chosen := known.choices.get(asked)) is not None:
        return chosen
    with _one_decides:
        chosen, is_final = _decide(name, wanted)
        if is_final:
            known.choices[asked] = chosen
    return chosen


def _decide(name: str, wanted: Request) -> tuple[str, bool]:
    """Return the backend, and whether the choice is final for this process."""
    if name == "auto":
        return _automatic(wanted)
    if name not in ORDER:
        raise ValueError(f"backend must be 'auto' or one of {ORDER}, got {name!r}")
    why_not = wanted.objection(name)
    if why_not is not None:
        raise RuntimeError(f"backend '{name}' cannot run: {why_not}")
    return name, True


def _automatic(wanted: Request) -> tuple[str, bool]:
    plain = next(n for n in ORDER if not (_is_for_gpu(n) or wanted.objection(n)))
    kernels = {} if plain == ORDER[0] else wanted.kernels()
    if not kernels:
        if plain != ORDER[0] and wanted.device.type == "cpu":
            native.warn_once()
        return plain, True
    found = known.findings(wanted.kind, kernels)
    taken = known.best(kernels, found)
    if taken is not None:
        return taken if taken in kernels else plain, True
    unknown = _to_check(kernels, found)
    if unknown and _nothing_may_run(wanted.device):
        _warn_of(plain, [
            f"Nothing is known about kernels for this GPU ({wanted.kind}), and nothing can be "
            "checked while a model is exported or a CUDA graph is captured: call the loss once "
            f"before that{f', or {ADVICE}' if wanted.kind.may_be_verified else ''}."
        ])  # fmt: skip
        return plain, False
    for name in unknown:
        # Imported only here: the check is needed once per machine.
        from fastclip.ops.first_use import check_once

        check_once(name, load_backend(name), wanted)
        found = known.findings(wanted.kind, kernels)
        if name in found and found[name].passed:
            return name, True
    _warn_of(plain, [known.reason_against(n, wanted.kind, kernels, found) for n in kernels])
    return plain, True


@functools.cache
def _is_for_gpu(name: str) -> bool:
    return hasattr(load_backend(name), "variant_on")


def _to_check(kernels: Mapping[str, str], found: Mapping[str, Finding]) -> tuple[str, ...]:
    """Return the kernels to compare with `chunked`; none if some are known to be correct."""
    if known.best(kernels, found) is not None:
        return ()
    return tuple(
        name
        for name in CHECKED_AT_FIRST_USE
        if name in kernels and (name not in found or found[name].source == "begun")
    )


def _nothing_may_run(device: torch.device) -> bool:
    """Return whether a check cannot run now: a tracer would record it, or a capture forbids it."""
    is_traced = torch.compiler.is_exporting() or torch.jit.is_tracing()
    return is_traced or gpu_device.is_capturing(device)


def _warn_of(plain: str, sentences: Iterable[str | None]) -> None:
    reasons = " ".join(filter(None, sentences))
    warnings.warn(
        f"backend=\"auto\" takes '{plain}', which is slower than the kernels for a GPU. {reasons}",
        stacklevel=2,
    )
