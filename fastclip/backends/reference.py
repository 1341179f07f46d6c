"""The specification: both primitives and their gradients with the M x N logits written out.

Every other backend is tested against this file, and this file against float64 autograd.

Contrastive log-sum-exp
    s_ij      = logit_scale <row_i, col_j>
    pair      : i in [0, M), j = i + offset in [0, N); all other (i, j) are negatives, but for those
                that an interval leaves out: begin_i <= j < end_i, for rows and columns alike
    positive_i = s_{i, i+offset}                               0 where row i has no pair
    max_i      = max_j s_ij              over negatives;   -inf where there are none
    sum_i      = sum_j exp(s_ij - max_i)   likewise;          1 where there are none
    for rows, and max'_j, sum'_j alike for columns. Every use treats rows and columns alike, so
    both come in one vector of M + N, rows first; where one side is wanted, in a vector of M or of
    N. The log-sum-exp is max + log(sum); it is kept
    as two numbers because their float32 sum would round to the ulp of the maximum, at
    logit_scale 100 an error of 4e-6 in every probability, and because such pairs merge exactly.

    A backend may put another shift in the place of max, if its caller does not need the maxima:
        sum_i = sum_j exp(s_ij - shift_i),  finite and not zero;  -inf and 1 as above

    The shifts are constants of the differentiation. With g, g' and h the gradients of the loss
    w.r.t. the sums of rows and columns and w.r.t. the positives,
        G_ij = g_i exp(s_ij - shift_i) + g'_j exp(s_ij - shift'_j)   for negatives
        G_ij = h_i                                                   for pairs
        G_ij = 0                                                     for what is left out
        d row = logit_scale G col;   d col = logit_scale G^T row;   d logit_scale = <G col, row>

Sigmoid sum
    l_ij = s_ij + logit_bias
    row_loss_i = sum_j softplus(l_ij) over negatives + softplus(-l_ij) for its pair
        G_ij = g_i sigmoid(l_ij) for negatives, -g_i sigmoid(-l_ij) for pairs, 0 for what is left
        out; d logit_bias = sum G

Cost: three to five M x N tensors. Source: Radford et al. 2021, arXiv:2103.00020, Figure 3;
Zhai et al. 2023, arXiv:2303.15343, Algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.kept_logits import NOTHING_KEPT, KeptLayout, no_kept_rows
from fastclip.backends.normalization import prepared_rows, prepared_rows_backward
from fastclip.rectangle import Rectangle, Sides

TAKES_INTERVALS = True


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    return None


def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    return NOTHING_KEPT


def contrastive_lse(
    rectangle: Rectangle, workspace: int | None, kept_rows: int, needs_maximum: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, cols = prepared_sides(rectangle)
    logits = rectangle.logit_scale * (rows @ cols.T)
    pairs = logits.diagonal(rectangle.pair_offset)
    positive = logits.new_zeros(len(rows))
    positive[paired_rows(rectangle)] = pairs
    leave_out(rectangle, logits, float("-inf"))
    pairs.fill_(float("-inf"))
    of_sides = [max_and_sum(logits, dim=1 - i) for i in (0, 1) if rectangle.sides[i]]
    maximum = torch.cat([logits.new_empty(0), *(maximum for maximum, _ in of_sides)])
    total = torch.cat([logits.new_empty(0), *(total for _, total in of_sides)])
    return positive, maximum, total, no_kept_rows(logits)


def contrastive_lse_backward(
    rectangle: Rectangle,
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (sum of lengths,)
    shift: Tensor,  # (sum of lengths,)
    kept: Tensor,  # (0, 0)
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, cols = prepared_sides(rectangle)
    logits = rectangle.logit_scale * (rows @ cols.T)
    row_shift, col_shift = shift.split(rectangle.lengths)
    grad_row_sum, grad_col_sum = grad_total.split(rectangle.lengths)
    if rectangle.sides.rows:
        grad_logits = grad_row_sum[:, None] * exp_negatives(logits, row_shift[:, None])
    else:
        grad_logits = torch.zeros_like(logits)
    if rectangle.sides.cols:
        grad_logits += grad_col_sum * exp_negatives(logits, col_shift)
    leave_out(rectangle, grad_logits, 0.0)
    pairs = grad_logits.diagonal(rectangle.pair_offset)
    pairs.copy_(grad_positive[paired_rows(rectangle)])
    return _feature_gradients(grad_logits, rows, cols, rectangle, wants)


def siglip_sum(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    rows, cols = prepared_sides(rectangle)
    logits = _sigmoid_logits(rectangle, rows, cols, logit_bias)
    row_loss = -F.logsigmoid(-logits).sum(1)
    return row_loss, no_kept_rows(logits)


def siglip_sum_backward(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    grad_row_loss: Tensor,  # (M,)
    kept: Tensor,  # (0, 0)
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, cols = prepared_sides(rectangle)
    logits = _sigmoid_logits(rectangle, rows, cols, logit_bias)
    grad_logits = grad_row_loss[:, None] * logits.sigmoid()
    grad_logits.diagonal(rectangle.pair_offset).neg_()
    gradients = _feature_gradients(grad_logits, rows, cols, rectangle, wants)
    return *gradients, grad_logits.sum()


def siglip_sum_with_gradients(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    grad_dtype: torch.dtype,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return sum_i row_loss_i () and its gradients; features have theirs in `grad_dtype`."""
    # Gradients in float16 that are converted afterwards may be infinite: convert features first.
    rows, cols = (x.to(grad_dtype) for x in rectangle[:2])
    rectangle = rectangle._replace(rows=rows, cols=cols)
    row_loss, kept = siglip_sum(rectangle, logit_bias, workspace, 0)
    gradients = siglip_sum_backward(
        rectangle, logit_bias, torch.ones_like(row_loss), kept, workspace, wants
    )
    return row_loss.sum(), *gradients


def prepared_sides(rectangle: Rectangle) -> tuple[Tensor, Tensor]:
    """Return rows (M, D) and columns (N, D) as they are multiplied."""
    rows, cols = (prepared_rows(x, rectangle.normalize) for x in rectangle[:2])
    return rows, cols


def paired_rows(rectangle: Rectangle) -> slice:
    """Return the rows that have a pair: 0 <= i + offset < N."""
    M, N, offset = len(rectangle.rows), len(rectangle.cols), rectangle.pair_offset
    return slice(max(0, -offset), max(0, min(M, N - offset)))


def leave_out(rectangle: Rectangle, entries: Tensor, value: float) -> None:
    """Set the (M, N) `entries` that an interval leaves out to `value`."""
    if rectangle.excluded is None:
        return
    begin, end = (x[:, None] for x in rectangle.excluded)
    col = torch.arange(entries.shape[1], device=entries.device)
    entries.masked_fill_((begin <= col) & (col < end), value)


def exp_negatives(logits: Tensor, maximum: Tensor) -> Tensor:
    """Return exp(logits - maximum); a maximum of -inf (no negatives) means an empty sum."""
    return torch.exp(logits - maximum.masked_fill(maximum == float("-inf"), 0.0))


def max_and_sum(logits: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the largest negative and the sum of exponentials relative to it; pairs are -inf."""
    maximum = logits.amax(dim)
    total = exp_negatives(logits, maximum.unsqueeze(dim)).sum(dim)
    return maximum, total.masked_fill(total == 0, 1.0)


def _sigmoid_logits(
    rectangle: Rectangle, rows: Tensor, cols: Tensor, logit_bias: Tensor
) -> Tensor:  # (M, N)
    """Return l_ij, negated for pairs; -inf, with softplus 0, for entries that are left out."""
    logits = rectangle.logit_scale * (rows @ cols.T) + logit_bias
    pairs = logits.diagonal(rectangle.pair_offset)
    negated = -pairs
    leave_out(rectangle, logits, float("-inf"))
    pairs.copy_(negated)
    return logits


def _feature_gradients(
    grad_logits: Tensor,  # (M, N)
    rows: Tensor,  # (M, D), as multiplied
    cols: Tensor,  # (N, D), as multiplied
    rectangle: Rectangle,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    row_features, col_features, logit_scale = rectangle[:3]
    unscaled_row = grad_logits @ cols
    grad_logit_scale = (unscaled_row * rows).sum()
    grad_row, grad_col = row_features.new_empty(0), col_features.new_empty(0)
    if wants.rows:
        unscaled = logit_scale * unscaled_row
        grad_row = prepared_rows_backward(unscaled, row_features, rectangle.normalize)
    if wants.cols:
        unscaled = logit_scale * (grad_logits.T @ rows)
        grad_col = prepared_rows_backward(unscaled, col_features, rectangle.normalize)
    return grad_row, grad_col, grad_logit_scale
