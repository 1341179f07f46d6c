"""Measure the peak memory of a call on a GPU by torch's allocator."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def extra_bytes(call: Callable[[], Any], inputs: tuple[Tensor, ...]) -> int | None:
    """Return a call's peak bytes beyond inputs and gradients; without a GPU, just return None."""
    if not inputs[0].is_cuda:
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    rise = torch.cuda.max_memory_allocated() - before
    return max(0, rise - sum(x.nbytes for x in inputs))
