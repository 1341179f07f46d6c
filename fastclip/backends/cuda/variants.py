"""Which of the compiled matrix kernels run: those for any GPU, or Hopper's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fastclip.backends.cuda import library
from fastclip.backends.gpu.known import forget_choices


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

# For every thread: autograd runs a backward on a GPU in a thread of its own.
_chosen: str | None = None


@contextmanager
def chosen_variant(name: str) -> Iterator[None]:
    """Within the context, run this one: for tests and benchmarks. "auto" chooses anew."""
    global _chosen
    before, _chosen = _chosen, name
    forget_choices()
    try:
        yield
    finally:
        _chosen = before
        forget_choices()


def variant_for(device: torch.device) -> Variant:
    return VARIANTS[variant_on(device)]


def variant_on(device: torch.device) -> str:
    """The name of the one that runs there."""
    return _chosen or variants_on(device)[0]


def variants_on(device: torch.device) -> tuple[str, ...]:
    """The names of those that can run there, the one that does unasked first."""
    if device.type != "cuda":
        return "portable", "hopper"  # the emulator's
    hopper = torch.cuda.get_device_capability(device) == (9, 0)
    both = hopper and "sm_90a" in library.architectures()
    return ("hopper", "portable") if both else ("portable",)
