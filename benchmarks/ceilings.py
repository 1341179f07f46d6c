"""Measure what a machine can do at most: the rate of a large matrix product, and of a copy.

    matmul    2 n^3 FLOPs of an n x n x n product: float32 on a CPU, bfloat16 on a GPU
    copy      bytes read and written per second by a copy that no cache holds

Both are measured by the protocol of the losses (`timing.py`), in turns for a few rounds. They are
the roofs in the figure of `roofline.py`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.timing import time_together

# (n of the matmul, bytes of the copy), by the kind of device.
SIZES = {"cpu": (2048, 1 << 28), "cuda": (8192, 1 << 31)}
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}

# A function that makes tensors and returns a call with its work, in FLOPs or bytes.
Prepared = tuple[Callable[[], Any], int]


def copy(num_bytes: int, device: str) -> Prepared:
    """Prepare a copy of so many bytes; its work is the bytes that it reads and writes."""
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes


def square_matmul(size: int, dtype: torch.dtype, device: str) -> Prepared:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: a @ b, 2 * size**3


def measured_ceilings(device: str, rounds: int = 5) -> dict[str, Any]:
    """Measure both ceilings of a device.

    Args:
        device: "cpu" or "cuda".
        rounds: how many times each is measured.

    Returns:
        "matmul" and "copy", each with its "rate" (FLOP/s or bytes/s), its "unit" and its "timing";
        "dtype" of the matmul.

    Raises:
        MemoryError: the ceilings need more memory than is available; the message has both in GiB.
    """
    size, num_bytes = SIZES[device]
    needed = 4 * 4 * size**2 + 2 * num_bytes  # factors, also in float32, and their product
    available = host.available_bytes(device)
    if available is not None and needed > available:
        raise MemoryError(
            f"they need {needed / 2**30:.2f} GiB, but {available / 2**30:.2f} GiB are available"
        )
    works = {
        "matmul": (square_matmul(size, DTYPES[device], device), "FLOP/s"),
        "copy": (copy(num_bytes, device), "bytes/s"),
    }
    calls = {name: call for name, ((call, _), _) in works.items()}
    timings = time_together(calls, 1024, 64, rounds=rounds, budget_seconds=0, device=device)
    found: dict[str, Any] = {"dtype": str(DTYPES[device]).removeprefix("torch.")}
    for name, ((_, work), unit) in works.items():
        timing = timings[name]
        if isinstance(timing, Exception):
            raise timing
        rate = work / timing.seconds
        found[name] = {"rate": rate, "unit": unit, "timing": dataclasses.asdict(timing)}
    return found


def is_out_of_memory(error: Exception) -> bool:
    """Return whether there was not enough memory; on a CPU, torch raises a plain RuntimeError."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
