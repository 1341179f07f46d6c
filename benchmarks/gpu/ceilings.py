"""What this GPU does at our shapes with the vendor's kernels: our times are read against it.

copy            bytes read and written per second, 2 GiB
matmul          8192 x 8192 x 8192
logits          rows x cols^T of a block of the backward, 16-bit result
product         G col of a block, float32 sum and result
accumulate      G^T row of a block added into float32
"""

import torch

from fastclip.backends.gpu.blocks import block_for
from fastclip.backends.gpu.products import accumulate
from fastclip.benchmarks.gpu.worker import emit
from fastclip.benchmarks.measure import describe
from fastclip.benchmarks.timing import time_together

DIMS = (512, 768, 1024)


def run(device: str, skip: list[str], small: bool = False) -> None:
    size = 256 if small else 8192
    measure("copy", device, skip, *_copy(size << (5 if small else 18), device), unit="bytes/s")
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        measure(f"matmul {name}", device, skip, lambda a=a, b=b: a @ b, 2 * size**3)
    for D in DIMS:
        block = block_for(32_768, 32_768, D, 1 << 18 if small else None, 1)
        m, n, flops = block.rows, block.cols, 2 * block.rows * block.cols * D
        rows, cols, G = (
            torch.randn(shape, device=device).half() for shape in ((m, D), (n, D), (m, n))
        )
        out, into = torch.zeros(m, D, device=device), torch.zeros(n, D, device=device)
        shape = f"{m} x {n}, D = {D}"
        measure(f"logits {shape}", device, skip, lambda r=rows, c=cols: r @ c.T, flops)
        measure(
            f"product {shape}", device, skip,
            lambda o=out, g=G, c=cols: accumulate(o, g[None], c[None], first=True), flops,
        )  # fmt: skip
        measure(
            f"accumulate {shape}", device, skip,
            lambda o=into, g=G, r=rows: accumulate(o, g.T[None], r[None], first=False), flops,
        )  # fmt: skip


def _copy(num_bytes: int, device: str):
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes


def measure(name, device, skip, call, work, unit="FLOP/s") -> None:
    if name in skip:
        return
    emit(start=name)
    try:
        timing = time_together({name: call}, 1024, 64, device=device, budget_seconds=0.2)[name]
        if isinstance(timing, Exception):
            raise timing
        result = {"seconds": timing.seconds, "rate": work / timing.seconds, "unit": unit}
    except Exception as error:
        result = {"reason": describe(error)}
    emit(result={"name": name, **result}, key=name)
