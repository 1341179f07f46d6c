"""Measure the vendor's kernels on this GPU at our shapes, to compare our times with.

copy            bytes read and written per second, 2 GiB
matmul          8192 x 8192 x 8192
logits          rows x cols^T of a block of the backward, 16-bit result
product         G col of a block, float32 sum and result
accumulate      G^T row of a block added into float32
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fastclip.backends.gpu.blocks import block_for
from fastclip.backends.gpu.products import accumulate
from fastclip.benchmarks.ceilings import Prepared, copy, square_matmul
from fastclip.benchmarks.gpu.worker import Check, run_checks
from fastclip.benchmarks.timing import time_together

DIMS = (512, 768, 1024)


def run(device: str, small: bool = False) -> None:
    run_checks(every_rate(device, small), device)


def every_rate(device: str, small: bool) -> Iterator[Check]:
    size = 256 if small else 8192
    yield _rate("copy", device, copy, size << (5 if small else 18), unit="bytes/s")
    for dtype in (torch.bfloat16, torch.float16):
        yield matmul(device, dtype, size)
    for D in DIMS:
        block = block_for(32_768, 32_768, D, 1 << 18 if small else None, 1)
        shape = f"{block.rows} x {block.cols}, D = {D}"
        for product in (_logits, _product, _accumulate):
            name = f"{product.__name__[1:]} {shape}"
            yield _rate(name, device, product, block.rows, block.cols, D)


def matmul(device: str, dtype: torch.dtype, size: int = 8192) -> Check:
    """Prepare the largest product, with which times are compared."""
    name = f"matmul {str(dtype).removeprefix('torch.')}"
    return _rate(name, device, square_matmul, size, dtype)


def _logits(m: int, n: int, D: int, device: str) -> Prepared:
    rows, cols = (torch.randn(shape, device=device).half() for shape in ((m, D), (n, D)))
    return lambda: rows @ cols.T, 2 * m * n * D


def _product(m: int, n: int, D: int, device: str) -> Prepared:
    G, cols = (torch.randn(shape, device=device).half() for shape in ((m, n), (n, D)))
    out = torch.zeros(m, D, device=device)
    return lambda: accumulate(out, G[None], cols[None], first=True), 2 * m * n * D


def _accumulate(m: int, n: int, D: int, device: str) -> Prepared:
    G, rows = (torch.randn(shape, device=device).half() for shape in ((m, n), (m, D)))
    into = torch.zeros(n, D, device=device)
    return lambda: accumulate(into, G.T[None], rows[None], first=False), 2 * m * n * D


def _rate(
    name: str, device: str, prepare: Callable[..., Prepared], *args: Any, unit: str = "FLOP/s"
) -> Check:
    return Check(name, functools.partial(_measured, name, device, prepare, *args, unit=unit))


def _measured(
    name: str, device: str, prepare: Callable[..., Prepared], *args: Any, unit: str
) -> dict[str, Any]:
    call, work = prepare(*args, device)
    timing = time_together({name: call}, 1024, 64, device=device, budget_seconds=0.2)[name]
    if isinstance(timing, Exception):
        raise timing
    return {"seconds": timing.seconds, "rate": work / timing.seconds, "unit": unit}
