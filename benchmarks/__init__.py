"""Measure time, memory and error of losses: `fastclip bench`, and `bench` for Python sessions."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Importing `bench` imports torch, which takes seconds; other modules are used without it.
    if name == "bench":
        from fastclip.benchmarks.session import bench

        return bench
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
