"""Launch kernels on a device or, for the kernels' report, only compile them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_instead: ContextVar[Callable[..., None] | None] = ContextVar("instead", default=None)


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Launch kernel[grid](*args, **constants) on the current device and stream."""
    # Explicit, because Triton's default changes with 3.10; kernels use tl.fma where they must fuse.
    constants.setdefault("enable_fp_fusion", True)
    instead = _instead.get()
    if instead is None:
        kernel[grid](*args, **constants)
    else:
        instead(kernel, grid, *args, **constants)


@contextmanager
def launching_instead(function: Callable[..., None]) -> Iterator[None]:
    """Call `function(kernel, grid, *args, **constants)` for every launch within the context."""
    token = _instead.set(function)
    try:
        yield
    finally:
        _instead.reset(token)
