"""What the arithmetic and the blocks depend on of a device: all that is decided by what it is."""

import functools
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """A device, by what it is.

    Args:
        multiplies_16_bits: whether it sums products of 16-bit factors in float32, and returns that.
        workspace: bytes of a block of logits, unless the caller says how many.
        multiprocessors: how many tiles of a product it computes at a time; 0 if that is no concern.
    """

    multiplies_16_bits: bool
    workspace: int
    multiprocessors: int


CPU = Machine(multiplies_16_bits=False, workspace=64 << 20, multiprocessors=0)


def machine_of(device: torch.device) -> Machine:
    """Asks no more of the device than its properties: nothing waits for it."""
    if device.type != "cuda":
        return CPU
    # `addmm` with `out_dtype` is CUDA's alone: ROCm may refuse it.
    return Machine(torch.version.hip is None, 256 << 20, _multiprocessors(device))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
