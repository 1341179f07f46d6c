"""Compute a cross-entropy from the statistics of `contrastive_lse`, for rows, columns or both.

For the sides that are wanted, as (sides, B):
    nll    = -log p = softplus(shift + log total - positive)
    loss_i = mean over sides of nll_i

Nothing cancels when p is nearly 1: the loss of a model that fits its data keeps its relative
accuracy, and so does the gradient, because the derivative of softplus is a sigmoid and not p - 1.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import Call
from fastclip.ops.eager import is_eager_square
from fastclip.ops.whole_clip_loss import whole_clip_loss
from fastclip.rectangle import Rectangle


class CrossEntropy(NamedTuple):
    """The cross-entropy of B pairs: of all rows of a rectangle, all columns, or both of a square.

    The statistics are None where a backend computed the mean in one step and no maxima are wanted.
    """

    loss: Tensor  # () or (B,)
    positive: Tensor | None  # (B,), constants
    shift: Tensor | None  # (sides, B), constants


def cross_entropy(
    rectangle: Rectangle, call: Call, mean: bool = True, needs_maximum: bool = False
) -> CrossEntropy:
    """Return the cross-entropy between the pairs and the softmax over all logits.

    Args:
        rectangle: every row must have a pair where rows are wanted, and every column where columns
            are wanted; with both, the rectangle is a square with pairs on the main diagonal.
        call: how the rectangle is computed, from `dispatch.plan`.
        mean: return the mean over the B pairs instead of the loss of each.
        needs_maximum: whether the shifts must be the largest negatives.

    Raises:
        ValueError: no side is wanted, or a row or column whose loss is wanted has no pair.
    """
    if is_eager_square(rectangle):  # the same formulas in one node
        if call.backend == "cpu":
            rows, cols, logit_scale = rectangle[:3]
            native = torch.ops.fastclip_native.clip_loss
            return CrossEntropy(
                *native(rows, cols, logit_scale, mean, rectangle.normalize, call.kept_rows)
            )
        if mean and not needs_maximum and (whole := whole_clip_loss(rectangle, call)) is not None:
            return CrossEntropy(whole, None, None)
    _check_pairs(rectangle)
    positive, shift, total, _ = contrastive_lse(rectangle, call, needs_maximum)
    if not rectangle.sides.rows:
        # The columns' pairs are in consecutive rows, beginning with the row of column 0's pair.
        positive = positive.narrow(0, -rectangle.pair_offset, rectangle.cols.shape[0])
    sides = sum(rectangle.sides), -1
    shift = shift.view(sides)
    nll = negative_log_probability(positive, shift, total.view(sides))
    return CrossEntropy(nll.mean() if mean else nll.mean(0), positive.detach(), shift)


def negative_log_probability(
    positive: Tensor,  # (B,)
    shift: Tensor,  # (sides, B)
    total: Tensor,  # (sides, B)
) -> Tensor:  # (sides, B)
    # torch returns x for softplus(x) above the threshold: e^-40 is below a double's rounding.
    return F.softplus(shift - positive + total.log(), beta=1.0, threshold=40.0)


def _check_pairs(rectangle: Rectangle) -> None:
    of_rows, of_cols = rectangle.sides
    M, N = rectangle.rows.shape[0], rectangle.cols.shape[0]
    offset = rectangle.pair_offset
    rows_are_paired = not of_rows or 0 <= offset <= N - M
    cols_are_paired = not of_cols or 0 <= -offset <= M - N
    if not (of_rows or of_cols) or not (rows_are_paired and cols_are_paired):
        raise ValueError(
            "every row and column whose loss is wanted must have a pair, got "
            f"{rectangle.positives} in {M} x {N} logits and {rectangle.sides}"
        )
