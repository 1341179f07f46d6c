"""Launching kernels, on a device or, for the report, no further than the compiler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_instead: ContextVar[Callable[..., None] | None] = ContextVar("instead", default=None)


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """kernel[grid](*args, **constants) on the current device and stream."""
    # Said outright, since Triton's default changes with 3.10; what must be fused says tl.fma.
    constants.setdefault("enable_fp_fusion", True)
    instead = _instead.get()
    if instead is None:
        kernel[grid](*args, **constants)
    else:
        instead(kernel, grid, *args, **constants)


@contextmanager
def launching_instead(function: Callable[..., None]) -> Iterator[None]:
    """Within the context, `function(kernel, grid, *args, **constants)` gets every launch."""
    token = _instead.set(function)
    try:
        yield
    finally:
        _instead.reset(token)
