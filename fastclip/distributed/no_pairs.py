"""Rectangles without rows or without columns, which a rank without pairs has.

No backend is called for such a rectangle. Its statistics are those without any logits. They still
depend on all features and on the scale, through empty sums, so that a backward makes the exchanges
that other ranks wait for.
"""

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.rectangle import Rectangle


def is_empty(rectangle: Rectangle) -> bool:
    return 0 in (len(rectangle.rows), len(rectangle.cols))


def statistics_of(
    rectangle: Rectangle, call: Call, needs_maximum: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return positive, shift and total of `contrastive_lse`, also for an empty rectangle."""
    if not is_empty(rectangle):
        return contrastive_lse(rectangle, call, needs_maximum)[:3]
    rows, cols, logit_scale = rectangle[:3]
    zero = rows[:0].sum() + cols[:0].sum() + logit_scale.reshape(-1)[:0].sum()
    options = dict(dtype=compute_dtype(rows.dtype), device=rows.device)
    positive = torch.zeros(len(rows), **options) + zero
    shift = torch.full((sum(rectangle.lengths),), float("-inf"), **options)
    return positive, shift, torch.ones_like(shift) + zero
