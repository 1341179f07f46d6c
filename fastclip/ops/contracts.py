"""The arguments of every operator that a backend serves, a line each; the names are the backend's.

`layout` says what the backend keeps of the logits.
"""

import torch
from torch import Tensor

from fastclip.backends.kept_logits import KeptLayout
from fastclip.ops.arguments import Arguments


def contrastive_lse(
    layout: KeptLayout,
    row_features: Tensor,
    col_features: Tensor,
    logit_scale: Tensor,
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    kept_rows: int,
    needs_maximum: bool,
) -> None:
    of = Arguments("contrastive_lse", row_features, col_features)
    of.scalar("logit_scale", logit_scale)
    of.offset(positive_offset)
    of.workspace(workspace)
    of.kept_rows(kept_rows, layout)


def contrastive_lse_backward(
    layout: KeptLayout,
    grad_positive: Tensor,
    grad_total: Tensor,
    row_features: Tensor,
    col_features: Tensor,
    logit_scale: Tensor,
    shift: Tensor,
    kept: Tensor,
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> None:
    of = Arguments("contrastive_lse_backward", row_features, col_features)
    of.vector("grad_positive", grad_positive, of.M)
    of.vector("grad_total", grad_total, of.M + of.N)
    of.scalar("logit_scale", logit_scale)
    of.vector("shift", shift, of.M + of.N)
    of.kept(kept, layout)
    of.offset(positive_offset)
    of.workspace(workspace)


def siglip_sum(
    layout: KeptLayout,
    row_features: Tensor,
    col_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    kept_rows: int,
) -> None:
    of = Arguments("siglip_sum", row_features, col_features)
    of.scalar("logit_scale", logit_scale)
    of.scalar("logit_bias", logit_bias)
    of.offset(positive_offset)
    of.workspace(workspace)
    of.kept_rows(kept_rows, layout)


def siglip_sum_backward(
    layout: KeptLayout,
    grad_row_loss: Tensor,
    row_features: Tensor,
    col_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    kept: Tensor,
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> None:
    of = Arguments("siglip_sum_backward", row_features, col_features)
    of.vector("grad_row_loss", grad_row_loss, of.M)
    of.scalar("logit_scale", logit_scale)
    of.scalar("logit_bias", logit_bias)
    of.kept(kept, layout)
    of.offset(positive_offset)
    of.workspace(workspace)


def siglip_sum_with_gradients(
    layout: KeptLayout,
    row_features: Tensor,
    col_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    grad_dtype: torch.dtype,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> None:
    of = Arguments("siglip_total", row_features, col_features)
    of.scalar("logit_scale", logit_scale)
    of.scalar("logit_bias", logit_bias)
    of.offset(positive_offset)
    of.workspace(workspace)
