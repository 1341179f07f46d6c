"""Choose between the compiled matrix kernels: the portable ones, or the ones for Hopper."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fastclip.backends.cuda import library
from fastclip.backends.gpu.known import forget_choices


@dataclass(frozen=True)
class Variant:
    """A set of matrix kernels, and the tiles for which they write partial results."""

    prefix: str  # how its operators' names begin
    block_m: int
    block_n: int
    strip_partials: int  # partials of columns that a strip writes


VARIANTS = {
    "portable": Variant("", 128, 128, 1),  # csrc/cuda/tile_product.cuh
    "hopper": Variant("hopper_", 256, 256, 2),  # csrc/cuda/hopper/product.cuh
}

# One value for all threads: autograd runs a backward on a GPU in another thread.
_chosen: str | None = None


@contextmanager
def chosen_variant(name: str) -> Iterator[None]:
    """Run this variant within the context, where "auto" chooses again; for tests and benchmarks."""
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
    """Return the name of the variant that runs on a device."""
    return _chosen or variants_on(device)[0]


def variants_on(device: torch.device) -> tuple[str, ...]:
    """Return the names of the variants that can run on a device; the first is the default."""
    if device.type != "cuda":
        return "portable", "hopper"  # the emulator's
    hopper = torch.cuda.get_device_capability(device) == (9, 0)
    both = hopper and "sm_90a" in library.architectures()
    return ("hopper", "portable") if both else ("portable",)
