"""How a rectangle is computed: by which backend, what it keeps, and in how many passes.

The backend is a named one or, for "auto", the first that nothing speaks against. No environment
variable and no installed package changes what a named backend computes.
"""

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.backends.gpu import verified
from fastclip.backends.gpu.device import architecture
from fastclip.backends.kept_logits import KeptLayout
from fastclip.ops.differentiation import needs_grad
from fastclip.rectangle import Rectangle

# The order of "auto", fastest first; of those for a GPU it takes the one that the table of
# measurements says (`backends/gpu/verified.py`), or none. `reference` always runs.
ORDER = ("cpu", "triton", "cuda", "chunked", "reference")


def _constant_for_the_compiler(function: Callable) -> Callable:
    """What runs here does not change within a process: torch.compile may call it once.

    The mark of `torch.compiler.assume_constant_result`, which would import the compiler with it:
    0.9 s of `import fastclip`.
    """
    function._dynamo_marked_constant = True
    return function


@functools.cache
def load_backend(name: str) -> ModuleType:
    """Raises ValueError if there is none of this name."""
    if name not in ORDER:
        raise ValueError(f"backend must be one of {ORDER}, got {name!r}")
    return importlib.import_module(f"fastclip.backends.{name}")


class Call(NamedTuple):
    """How a primitive is computed.

    Args:
        backend: its name.
        workspace: bytes of memory that it may use to save time; None is its own bound.
        kept_rows: how many rows of logits the forward keeps for the backward.
        one_pass: whether the forward computes the gradients too (`siglip_total`).
    """

    backend: str
    workspace: int | None = None
    kept_rows: int = 0
    one_pass: bool = False


def plan(
    primitive: str, backend: str, rectangle: Rectangle, workspace: int | None, *others: Tensor
) -> Call:
    """Decide once how a primitive of `rectangle` is computed.

    Args:
        primitive: "contrastive_lse", "siglip_sum" or, if only the sum of all losses is wanted,
            "siglip_total".
        backend: a name, or "auto".
        rectangle: its features are valid.
        others: tensors beside the rectangle that may need a gradient.

    Raises:
        ValueError: `backend` is unknown.
        RuntimeError: the named backend cannot take the rectangle; the message is its objection.
    """
    rows, cols, logit_scale = rectangle[:3]
    name = _resolve(backend, *_kind(rows), rectangle.excluded is not None)
    if not needs_grad(rows, cols, logit_scale, *others):
        return Call(name, workspace)
    if primitive == "siglip_total":
        if has_one_pass_siglip(name):
            return Call(name, workspace, one_pass=True)
        primitive = "siglip_sum"
    M, N = rows.shape[0], cols.shape[0]
    return Call(name, workspace, kept_rows(name, primitive, M, N, rows.dtype, workspace))


def resolve_backend(name: str, row_features: Tensor) -> str:
    """Return the backend to call for features like `row_features` (validated, with its twin).

    Raises:
        ValueError: `name` is unknown.
        RuntimeError: the named backend cannot take these inputs; the message is its objection.
    """
    return _resolve(name, *_kind(row_features), False)


def explain_backends(image_features: Tensor | None = None) -> dict[str, str | None]:
    """Why "auto" would not take each backend for inputs like `image_features`, in its order.

    Args:
        image_features: (B, D), any device and dtype; without it, float32 features on the CPU.

    Returns:
        Backend name to its objection or, where it would run if named, to what speaks against
        taking it unasked ("unverified on sm_90: ...", "slower than triton here (...)"). None where
        "auto" may take it.
    """
    return reasons(*_kind(torch.empty(0) if image_features is None else image_features))


def reasons(device: torch.device, dtype: torch.dtype, D: int) -> dict[str, str | None]:
    """`explain_backends` for features of a kind."""
    kind = device, dtype, _dim_class(device, D)
    return {name: _reason_against(name, *kind, False) for name in ORDER}


def available_backends(image_features: Tensor | None = None) -> tuple[str, ...]:
    """The backends that would run inputs like `image_features` if named, in the order of "auto"."""
    device, dtype, _ = _kind(torch.empty(0) if image_features is None else image_features)
    return tuple(
        name for name in ORDER if load_backend(name).unsupported(device.type, dtype) is None
    )


def objection(
    name: str, device_type: str, dtype: torch.dtype, leaves_out: bool = False
) -> str | None:
    """Why a backend cannot take a rectangle of this kind, which may leave out entries."""
    backend = load_backend(name)
    if leaves_out and not hasattr(backend, "TAKES_INTERVALS"):
        return "it cannot leave out columns (Rectangle.excluded); 'reference' can"
    return backend.unsupported(device_type, dtype)


def _kind(features: Tensor) -> tuple[torch.device, torch.dtype, int]:
    return features.device, features.dtype, _dim_class(features.device, features.shape[-1])


def _dim_class(device: torch.device, D: int) -> int:
    """What the table of GPU kernels asks of D, which may be a symbol; 0 where it is not asked."""
    return 0 if device.type == "cpu" else verified.dim_class(D)


def _reason_against(
    name: str, device: torch.device, dtype: torch.dtype, dim: int, leaves_out: bool
) -> str | None:
    why_not = objection(name, device.type, dtype, leaves_out)
    if why_not is not None or not _is_for_gpu(name):
        return why_not
    if device.type == "cpu":
        return "unverified on cpu: kernels for a GPU run there in tests only"
    running = {
        other: load_backend(other).variant_on(device)
        for other in filter(_is_for_gpu, ORDER)
        if objection(other, device.type, dtype, leaves_out) is None
    }
    return verified.reason_against(
        name, running, architecture(device), str(dtype).removeprefix("torch."), dim
    )


def _is_for_gpu(name: str) -> bool:
    return hasattr(load_backend(name), "variant_on")


@_constant_for_the_compiler
def _resolve(
    name: str, device: torch.device, dtype: torch.dtype, dim: int, leaves_out: bool
) -> str:
    if name == "auto":
        kind = device, dtype, dim, leaves_out
        return next(n for n in ORDER if _reason_against(n, *kind) is None)
    if name not in ORDER:
        raise ValueError(f"backend must be 'auto' or one of {ORDER}, got {name!r}")
    why_not = objection(name, device.type, dtype, leaves_out)
    if why_not is not None:
        raise RuntimeError(f"backend '{name}' cannot run: {why_not}")
    return name


def kept_rows(
    backend: str, primitive: str, M: int, N: int, dtype: torch.dtype, workspace: int | None
) -> int:
    """How many rows of the M x N logits the forward keeps for the backward."""
    return kept_layout(backend, primitive, dtype).num_rows(M, N, workspace)


def kept_like(backend: str, primitive: str, features: Tensor, kept_rows: int, N: int) -> Tensor:
    """An empty tensor of the shape that `backend` keeps kept_rows rows of N logits in."""
    row_bytes = kept_layout(backend, primitive, features.dtype).row_bytes(N)
    return features.new_empty((kept_rows, row_bytes), dtype=torch.uint8)


@_constant_for_the_compiler
def kept_layout(backend: str, primitive: str, dtype: torch.dtype) -> KeptLayout:
    return load_backend(backend).kept_layout(primitive, dtype)


@_constant_for_the_compiler
def has_one_pass_siglip(backend: str) -> bool:
    return hasattr(load_backend(backend), "siglip_sum_with_gradients")
