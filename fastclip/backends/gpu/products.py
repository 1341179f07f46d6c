"""The products of the backward, G col and G^T row: the vendor's matrix product, summed in float32.

Math
    one plane:   out += G b
    two planes:  G = G_high + 2^-11 G_low;  out += G_high b_high + G_high b_low + 2^-11 G_low b_high
"""

import torch
from torch import Tensor

LOW_SCALE = 2048.0  # 2^11, of the low plane of a block


def accumulate(out: Tensor, block: Tensor, values: Tensor, first: bool) -> None:
    """out: (m, D) float32; block: (planes, m, n) and values: (planes, n, D), float16.

    `first`: what `out` holds is not added.
    """
    beta = 0.0 if first else 1.0
    _addmm(out, block[0], values[0], beta, 1.0)
    if block.shape[0] == 2:
        _addmm(out, block[0], values[1], 1.0, 1.0)
        _addmm(out, block[1], values[0], 1.0, 1.0 / LOW_SCALE)


def _addmm(out: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> None:
    if out.is_cuda:
        # float16 factors, float32 sum and result; the flag that lets float16 products be summed in
        # float16 concerns float16 results only.
        torch.ops.aten.addmm.dtype_out(out, a, b, torch.float32, beta=beta, alpha=alpha, out=out)
    else:
        torch.addmm(out, a.float(), b.float(), beta=beta, alpha=alpha, out=out)
