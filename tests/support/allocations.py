"""What a call allocates, as torch's profiler counts it: Python's operators and those in C++."""

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

MIB = 1 << 20


def allocations(function: Callable[[], Any]) -> tuple[int, int]:
    """Largest single allocation and peak of the running sum of allocations, in bytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    sizes = [
        event.nbytes()
        for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns())
        if event.name() == "[memory]"
    ]
    assert len(sizes) > 10, "the profiler saw no allocations"
    running = peak = 0
    for size in sizes:
        running += size
        peak = max(peak, running)
    return max(sizes), peak
