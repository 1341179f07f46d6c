"""The activation budget: the memory that determines how many micro-batches keep their graphs.

    kept = min(budget / bytes of one graph, number of micro-batches)

The bytes are measured: they are the tensors that the forward of a micro-batch saves for its
backward, each storage once, without parameters and inputs.
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from fastclip.train.memory.host import available_host_bytes

T = TypeVar("T")
GIB = 2**30
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B)?\s*", re.IGNORECASE)
UNLIMITED = float("inf")
# "auto" spares this fraction of the free memory, because allocators fragment and batches differ.
SPARED = 0.1


def parse_budget(budget: str | float) -> float:
    """Return the bytes of a budget: "unlimited", or what `parse_bytes` reads; "auto" is no number.

    Callers find the budget of "auto" by `available_bytes`.
    """
    return UNLIMITED if budget == "unlimited" else parse_bytes("activation_budget", budget)


def parse_bytes(name: str, size: str | float) -> float:
    """Return the bytes of "20GiB", "512M", "0" or a number; units are powers of 1,024, also "20G".

    Raises:
        ValueError: `size` is none of these, or negative; the message has the argument's `name`.
    """
    match = SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is not None:
        number, unit, _ = match.groups()
        return float(number) * UNITS[unit.upper()]
    if isinstance(size, str) or not size >= 0:
        raise ValueError(f"{name} must be a number of bytes, such as 0 or '20GiB', got {size!r}")
    return float(size)


def available_bytes(device: torch.device, transient: float = 0) -> float:
    """Return the memory on `device` for graphs that are kept.

    Args:
        transient: bytes that a step takes, and that are free again between two steps.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        peak = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
        return max(0.0, (1 - SPARED) * (free + unused) - peak)
    return max(0.0, (1 - SPARED) * memory_of(device) - transient)


def memory_of(device: torch.device) -> int:
    """Return all bytes of a GPU, or the bytes of the host's memory that are still available.

    Limits of containers and jobs count (`host.py`). The host's memory is divided among the
    processes that torchrun started on it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return available_host_bytes() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def measure_kept(function: Callable[[], T], not_counted: Iterable[Tensor]) -> tuple[T, int]:
    """Call `function` and count the bytes that its graph keeps alive.

    Args:
        function: a forward.
        not_counted: parameters and inputs, which stay alive anyway.
    """
    alive = {_address(t) for t in not_counted}
    kept: dict[int, torch.UntypedStorage] = {}

    def count(tensor: Tensor) -> Tensor:
        if _address(tensor) not in alive:
            kept[_address(tensor)] = tensor.untyped_storage()
        # Detached: a node that saves its own output would keep itself alive for ever.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        result = function()
    # Counted only now, because the weights that FSDP2 gathers for a forward are empty after it.
    return result, sum(storage.nbytes() for storage in kept.values())


def _address(tensor: Tensor) -> int:
    # The address of the storage and not of its bytes: tensors without data have no bytes.
    return tensor.untyped_storage()._cdata
