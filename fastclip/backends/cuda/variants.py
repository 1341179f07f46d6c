"""Which of the compiled matrix kernels run: those for any GPU, or Hopper's."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from fastclip.backends.cuda import library


@dataclass(frozen=True)
class Variant:
    """A set of matrix kernels and the tiles that they write partial results of."""

    prefix: str  # of its operators' names
    block_m: int
    block_n: int
    strip_partials: int  # partials of columns that a strip writes


VARIANTS = {
    "portable": Variant("", 128, 128, 1),  # csrc/cuda/tile_product.cuh
    "hopper": Variant("hopper_", 256, 256, 2),  # csrc/cuda/hopper/product.cuh
}

_chosen: ContextVar[str | None] = ContextVar("chosen", default=None)


@contextmanager
def chosen_variant(name: str) -> Iterator[None]:
    """Within the context, run this one: for tests and benchmarks."""
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def variant_for(device: torch.device) -> Variant:
    return VARIANTS[_chosen.get() or _best_for(device)]


def _best_for(device: torch.device) -> str:
    if device.type != "cuda":
        return "portable"
    hopper = torch.cuda.get_device_capability(device) == (9, 0)
    return "hopper" if hopper and "sm_90a" in library.architectures() else "portable"
