"""The properties of a device on which the arithmetic and the blocks depend."""

import functools
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """The properties of a device.

    Args:
        multiplies_16_bits: whether it adds products of 16-bit factors in float32, and returns
            float32.
        workspace: the default bytes of a block of logits.
        multiprocessors: how many tiles of a product it computes at a time; 0 on a CPU, where this
            does not matter.
    """

    multiplies_16_bits: bool
    workspace: int
    multiprocessors: int


CPU = Machine(multiplies_16_bits=False, workspace=64 << 20, multiprocessors=0)


def machine_of(device: torch.device) -> Machine:
    """Return a device's properties, without waiting for the device."""
    if device.type != "cuda":
        return CPU
    # `addmm` with `out_dtype` exists only for CUDA: ROCm may refuse it.
    return Machine(torch.version.hip is None, 256 << 20, _multiprocessors(device))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
