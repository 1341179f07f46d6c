"""The specification: both primitives and their gradients with the M x N logits written out.

Every other backend is tested against this file, and this file against float64 autograd.

Contrastive log-sum-exp
    s_ij      = logit_scale <row_i, col_j>
    pair      : i in [0, M), j = i + positive_offset in [0, N); all other (i, j) are negatives
    positive_i = s_{i, i+offset}                               0 where row i has no pair
    max_i      = max_j s_ij              over negatives;   -inf where there are none
    sum_i      = sum_j exp(s_ij - max_i)   likewise;          1 where there are none
    for rows, and max'_j, sum'_j alike for columns. Every use treats rows and columns alike, so
    both come in one vector of M + N, rows first. The log-sum-exp is max + log(sum); it is kept
    as two numbers because their float32 sum would round to the ulp of the maximum, at
    logit_scale 100 an error of 4e-6 in every probability, and because such pairs merge exactly.

    A backend may put another shift in the place of max, if its caller does not need the maxima:
        sum_i = sum_j exp(s_ij - shift_i),  finite and not zero;  -inf and 1 as above

    The shifts are constants of the differentiation. With g, g' and h the gradients of the loss
    w.r.t. the sums of rows and columns and w.r.t. the positives,
        G_ij = g_i exp(s_ij - shift_i) + g'_j exp(s_ij - shift'_j)   for negatives
        G_ij = h_i                                                   for pairs
        d row = logit_scale G col;   d col = logit_scale G^T row;   d logit_scale = <G col, row>

Sigmoid sum
    l_ij = s_ij + logit_bias
    row_loss_i = sum_j softplus(l_ij) over negatives + softplus(-l_ij) for its pair
        G_ij = g_i sigmoid(l_ij) for negatives, -g_i sigmoid(-l_ij) for pairs; d logit_bias = sum G

Cost: three to five M x N tensors. Source: Radford et al. 2021, arXiv:2103.00020, Figure 3;
Zhai et al. 2023, arXiv:2303.15343, Algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.kept_logits import NOTHING_KEPT, KeptLayout, no_kept_rows
from fastclip.backends.normalization import prepared_rows, prepared_rows_backward


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    return None


def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    return NOTHING_KEPT


def contrastive_lse(
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    kept_rows: int,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, cols = (prepared_rows(x, normalize) for x in (row_features, col_features))
    logits = logit_scale * (rows @ cols.T)
    pairs = logits.diagonal(positive_offset)
    positive = logits.new_zeros(len(rows))
    positive[paired_rows(logits, positive_offset)] = pairs
    pairs.fill_(float("-inf"))
    row_max, row_sum = max_and_sum(logits, dim=1)
    col_max, col_sum = max_and_sum(logits, dim=0)
    maximum, total = torch.cat((row_max, col_max)), torch.cat((row_sum, col_sum))
    return positive, maximum, total, no_kept_rows(logits)


def contrastive_lse_backward(
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (M + N,)
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    shift: Tensor,  # (M + N,)
    kept: Tensor,  # (0, 0)
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, cols = (prepared_rows(x, normalize) for x in (row_features, col_features))
    logits = logit_scale * (rows @ cols.T)
    row_shift, col_shift = shift.split(logits.shape)
    grad_row_sum, grad_col_sum = grad_total.split(logits.shape)
    grad_logits = grad_row_sum[:, None] * exp_negatives(logits, row_shift[:, None])
    grad_logits += grad_col_sum * exp_negatives(logits, col_shift)
    pairs = grad_logits.diagonal(positive_offset)
    pairs.copy_(grad_positive[paired_rows(logits, positive_offset)])
    return _feature_gradients(
        grad_logits, rows, cols, row_features, col_features, logit_scale,
        normalize, needs_row_grad, needs_col_grad,
    )  # fmt: skip


def siglip_sum(
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    rows, cols = (prepared_rows(x, normalize) for x in (row_features, col_features))
    logits = logit_scale * (rows @ cols.T) + logit_bias
    logits.diagonal(positive_offset).neg_()
    row_loss = -F.logsigmoid(-logits).sum(1)
    return row_loss, no_kept_rows(logits)


def siglip_sum_backward(
    grad_row_loss: Tensor,  # (M,)
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    kept: Tensor,  # (0, 0)
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, cols = (prepared_rows(x, normalize) for x in (row_features, col_features))
    logits = logit_scale * (rows @ cols.T) + logit_bias
    logits.diagonal(positive_offset).neg_()
    grad_logits = grad_row_loss[:, None] * logits.sigmoid()
    grad_logits.diagonal(positive_offset).neg_()
    gradients = _feature_gradients(
        grad_logits, rows, cols, row_features, col_features, logit_scale,
        normalize, needs_row_grad, needs_col_grad,
    )  # fmt: skip
    return *gradients, grad_logits.sum()


def siglip_sum_with_gradients(
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    grad_dtype: torch.dtype,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """sum_i row_loss_i () and its gradients, those of features in `grad_dtype`."""
    inputs = row_features, col_features, logit_scale, logit_bias
    row_loss, kept = siglip_sum(*inputs, positive_offset, normalize, workspace, 0)
    grad_row, grad_col, *of_scalars = siglip_sum_backward(
        torch.ones_like(row_loss), *inputs, kept, positive_offset, normalize, workspace,
        needs_row_grad, needs_col_grad,
    )  # fmt: skip
    return row_loss.sum(), grad_row.to(grad_dtype), grad_col.to(grad_dtype), *of_scalars


def paired_rows(logits: Tensor, positive_offset: int) -> slice:
    """The rows that have a pair: 0 <= i + positive_offset < N."""
    M, N = logits.shape
    return slice(max(0, -positive_offset), max(0, min(M, N - positive_offset)))


def exp_negatives(logits: Tensor, maximum: Tensor) -> Tensor:
    """exp(logits - maximum), where a maximum of -inf (no negatives) stands for an empty sum."""
    return torch.exp(logits - maximum.masked_fill(maximum == float("-inf"), 0.0))


def max_and_sum(logits: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Largest negative and sum of exponentials relative to it; pairs must hold -inf."""
    maximum = logits.amax(dim)
    total = exp_negatives(logits, maximum.unsqueeze(dim)).sum(dim)
    return maximum, total.masked_fill(total == 0, 1.0)


def _feature_gradients(
    grad_logits: Tensor,  # (M, N)
    rows: Tensor,  # (M, D), as multiplied
    cols: Tensor,  # (N, D), as multiplied
    row_features: Tensor,  # (M, D), as given
    col_features: Tensor,  # (N, D), as given
    logit_scale: Tensor,  # ()
    normalize: bool,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    unscaled_row = grad_logits @ cols
    grad_logit_scale = (unscaled_row * rows).sum()
    grad_row, grad_col = row_features.new_empty(0), col_features.new_empty(0)
    if needs_row_grad:
        grad_row = prepared_rows_backward(logit_scale * unscaled_row, row_features, normalize)
    if needs_col_grad:
        grad_col = prepared_rows_backward(
            logit_scale * (grad_logits.T @ rows), col_features, normalize
        )
    return grad_row, grad_col, grad_logit_scale
