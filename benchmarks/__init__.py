"""Speed, memory and error of the losses: `fastclip bench`, and `bench` for a session of Python."""

from typing import Any


def __getattr__(name: str) -> Any:
    # Its imports take as long as torch's; the modules of this package are used without it.
    if name == "bench":
        from fastclip.benchmarks.session import bench

        return bench
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
