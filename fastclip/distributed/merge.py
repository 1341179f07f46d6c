"""Sums of exponentials relative to different shifts, as one.

    shift = max_k shift_k;   total = sum_k total_k exp(shift_k - shift)

Exact but for the rounding of the sum: no term is larger than its total_k. A shift of -inf stands
for an empty sum; where all are, the result is (-inf, 1) as in `fastclip/backends/reference.py`.
"""

import torch
from torch import Tensor


def merge(shifts: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
    """(K, n) and (K, n) to (n,) and (n,). Totals are differentiable, shifts are constants."""
    shifts = shifts.detach()
    shift = shifts.amax(0)
    empty = shift == float("-inf")
    total = (totals * torch.exp(shifts - shift.masked_fill(empty, 0.0))).sum(0)
    return shift, total.masked_fill(empty, 1.0)
