"""The products of the backward, G col and G^T row: the vendor's matrix product, summed in float32.

Math
    one plane:   out += G b
    two planes:  G = G_high + 2^-11 G_low;  out += G_high b_high + G_high b_low + 2^-11 G_low b_high

`torch.backends.cuda.matmul.allow_fp16_accumulation`, the permission to sum float16 products in
float16, is switched off during the products: with it, torch refuses float32 results.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

LOW_SCALE = 2048.0  # 2^11, the factor of the low plane of a block


def accumulate(out: Tensor, block: Tensor, values: Tensor, first: bool) -> None:
    """Add the product of a block and an operand's values to `out`.

    Args:
        out: (m, D) float32.
        block: (planes, m, n) float16.
        values: (planes, n, D) float16.
        first: overwrite `out` instead of adding to it.
    """
    # Reading the public attribute takes microseconds, and so does entering a context.
    if not torch._C._get_cublas_allow_fp16_accumulation():
        _accumulate(out, block, values, first)
        return
    with _summed_in_float32():
        _accumulate(out, block, values, first)


def _accumulate(out: Tensor, block: Tensor, values: Tensor, first: bool) -> None:
    beta, high = 0.0 if first else 1.0, block[0]
    _addmm(out, high, values[0], beta, 1.0)
    if block.shape[0] == 2:
        _addmm(out, high, values[1], 1.0, 1.0)
        _addmm(out, block[1], values[0], 1.0, 1.0 / LOW_SCALE)


@contextmanager
def _summed_in_float32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_fp16_accumulation = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_fp16_accumulation = True


def _addmm(out: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> None:
    if out.is_cuda:
        # 16-bit factors, float32 sum and result.
        torch.ops.aten.addmm.dtype_out(out, a, b, torch.float32, beta=beta, alpha=alpha, out=out)
    else:
        torch.addmm(out, a.float(), b.float(), beta=beta, alpha=alpha, out=out)
