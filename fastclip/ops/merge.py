"""Merge sums of exponentials that are relative to different shifts.

    shift = max_k shift_k;   total = sum_k total_k exp(shift_k - shift)

The merge is exact except for the rounding of the sum: no term is larger than its total_k. A shift
of -inf means an empty sum; where all sums are empty, the result is (-inf, 1), as in
`fastclip/backends/reference.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Statistics = tuple[Tensor, Tensor]  # shift (n,), total (n,)


def merge(parts: Sequence[Statistics]) -> Statistics:
    """Merge the statistics of the same rows (or columns) over disjoint parts of the negatives.

    `contrastive_lse` of two rectangles that share their rows gives two parts of the rows'
    statistics; merged, they are the statistics of the one rectangle with all columns. The order and
    the grouping of the parts change the result by rounding only, and an empty part, (-inf, 1), does
    not change it.

    Args:
        parts: at least one pair of shift (n,) and total (n,), all with the same dtype.

    Returns:
        shift: (n,), a constant of the differentiation.
        total: (n,), differentiable with respect to the totals of the parts.

    Example:
        >>> of_batch, of_queue = (shift_1, total_1), (shift_2, total_2)
        >>> shift, total = merge([of_batch, of_queue])
        >>> log_sum_exp = shift + total.log()
    """
    shifts, totals = (torch.stack(x) for x in zip(*parts, strict=True))
    shifts = shifts.detach()
    shift = shifts.amax(0)
    empty = shift == float("-inf")
    total = (totals * torch.exp(shifts - shift.masked_fill(empty, 0.0))).sum(0)
    return shift, total.masked_fill(empty, 1.0)
