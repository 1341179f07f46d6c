"""Which backend runs: a named one or, for "auto", the first without an objection.

No environment variable and no installed package changes what a named backend computes.
"""

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype

# The order of "auto": fastest verified backend first. `reference` is last because it always runs.
ORDER = ("cpu", "chunked", "reference")


def _constant_for_the_compiler(function: Callable) -> Callable:
    """What runs here does not change within a process: torch.compile may call it once.

    The mark of `torch.compiler.assume_constant_result`, which would import the compiler with it:
    0.9 s of `import fastclip`.
    """
    function._dynamo_marked_constant = True
    return function


@functools.cache
def load_backend(name: str) -> ModuleType:
    return importlib.import_module(f"fastclip.backends.{name}")


def call_backend(name: str, function: str, *args: Any) -> tuple[Tensor, ...]:
    """Call a backend's function, with a tensor first, outside autocast.

    Autocast would round the products to 16 bits: at logit_scale 100, logits off by up to 0.15.
    """
    implementation = getattr(load_backend(name), function)
    device_type = args[0].device.type
    if not torch.is_autocast_enabled(device_type):
        return implementation(*args)
    with torch.autocast(device_type, enabled=False):
        return implementation(*args)


def resolve_backend(name: str, row_features: Tensor) -> str:
    """Return the backend to call for features like `row_features` (validated, with its twin).

    Raises:
        ValueError: `name` is unknown.
        RuntimeError: the named backend cannot take these inputs; the message is its objection.
    """
    return _resolve(name, row_features.device.type, row_features.dtype)


def explain_backends(image_features: Tensor | None = None) -> dict[str, str | None]:
    """What each backend says about inputs like `image_features`, in the order "auto" tries them.

    Args:
        image_features: (B, D), any device and dtype; without it, float32 features on the CPU.

    Returns:
        Backend name to its objection, None where it would run.
    """
    device_type = "cpu" if image_features is None else image_features.device.type
    dtype = torch.float32 if image_features is None else image_features.dtype
    return {name: load_backend(name).unsupported(device_type, dtype) for name in ORDER}


def available_backends(image_features: Tensor | None = None) -> tuple[str, ...]:
    """The backends that would run inputs like `image_features`, in the order "auto" tries them."""
    return tuple(name for name, why in explain_backends(image_features).items() if why is None)


@_constant_for_the_compiler
def _resolve(name: str, device_type: str, dtype: torch.dtype) -> str:
    if name == "auto":
        return next(n for n in ORDER if load_backend(n).unsupported(device_type, dtype) is None)
    if name not in ORDER:
        raise ValueError(f"backend must be 'auto' or one of {ORDER}, got {name!r}")
    objection = load_backend(name).unsupported(device_type, dtype)
    if objection is not None:
        raise RuntimeError(f"backend '{name}' cannot run: {objection}")
    return name


def kept_rows(backend: str, M: int, N: int, dtype: torch.dtype, workspace: int | None) -> int:
    """How many rows of the M x N logits the forward keeps for the backward.

    By default all of them, if they fit in what the backend keeps unasked, otherwise none; a
    `workspace` in bytes keeps as many as fit.
    """
    largest_default = _kept_bytes(backend)
    if largest_default == 0:
        return 0
    row_bytes = N * compute_dtype(dtype).itemsize
    if workspace is None:
        return M if M * row_bytes <= largest_default else 0
    return min(M, workspace // row_bytes)


@_constant_for_the_compiler
def _kept_bytes(backend: str) -> int:
    return load_backend(backend).KEPT_BYTES
