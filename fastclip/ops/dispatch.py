"""Which backend runs: a named one or, for "auto", the first that nothing speaks against.

No environment variable and no installed package changes what a named backend computes.
"""

import functools
import importlib
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from fastclip.backends.gpu import verified
from fastclip.backends.gpu.device import architecture
from fastclip.backends.kept_logits import KeptLayout

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


def resolve_backend(name: str, row_features: Tensor) -> str:
    """Return the backend to call for features like `row_features` (validated, with its twin).

    Raises:
        ValueError: `name` is unknown.
        RuntimeError: the named backend cannot take these inputs; the message is its objection.
    """
    return _resolve(name, *_kind(row_features))


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
    kind = device, dtype, verified.dim_class(D)
    return {name: _reason_against(name, *kind) for name in ORDER}


def available_backends(image_features: Tensor | None = None) -> tuple[str, ...]:
    """The backends that would run inputs like `image_features` if named, in the order of "auto"."""
    device, dtype, _ = _kind(torch.empty(0) if image_features is None else image_features)
    return tuple(
        name for name in ORDER if load_backend(name).unsupported(device.type, dtype) is None
    )


def _kind(features: Tensor) -> tuple[torch.device, torch.dtype, int]:
    """Of D, its class only: it may be a symbol of the compiler's, which is not a constant."""
    return features.device, features.dtype, verified.dim_class(features.shape[-1])


def _reason_against(name: str, device: torch.device, dtype: torch.dtype, dim: int) -> str | None:
    objection = load_backend(name).unsupported(device.type, dtype)
    if objection is not None or not _is_for_gpu(name):
        return objection
    running = {
        other: load_backend(other).variant_on(device)
        for other in filter(_is_for_gpu, ORDER)
        if load_backend(other).unsupported(device.type, dtype) is None
    }
    return verified.reason_against(
        name, running, architecture(device), str(dtype).removeprefix("torch."), dim
    )


def _is_for_gpu(name: str) -> bool:
    return hasattr(load_backend(name), "variant_on")


@_constant_for_the_compiler
def _resolve(name: str, device: torch.device, dtype: torch.dtype, dim: int) -> str:
    if name == "auto":
        return next(n for n in ORDER if _reason_against(n, device, dtype, dim) is None)
    if name not in ORDER:
        raise ValueError(f"backend must be 'auto' or one of {ORDER}, got {name!r}")
    objection = load_backend(name).unsupported(device.type, dtype)
    if objection is not None:
        raise RuntimeError(f"backend '{name}' cannot run: {objection}")
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
