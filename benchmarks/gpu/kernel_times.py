"""Ask the profiler which kernels a call launches, how often, and how long they take."""

from collections.abc import Callable
from typing import Any

import torch

MOST = 9  # kernels of a call, the longest first
NAME = 56  # characters of a kernel's name


def kernel_times(call: Callable[[], Any], device: str) -> list[tuple[str, int, float]]:
    """Return (name, launches, milliseconds) of all launches on a GPU; nothing without a GPU."""
    if device != "cuda":
        return []
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    every = sorted(profiler.key_averages(), key=lambda row: -row.device_time_total)
    return [
        (row.key[:NAME], row.count, round(1e-3 * row.device_time_total, 3)) for row in every[:MOST]
    ]
