"""Check the arguments of every function of a backend, a line each; names are the backend's names.

`layout` says how the backend keeps logits. `Arguments` checks the rectangle.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastclip.backends.kept_logits import KeptLayout
from fastclip.ops.arguments import Arguments
from fastclip.rectangle import Rectangle, Sides


def contrastive_lse(
    layout: KeptLayout,
    rectangle: Rectangle,
    workspace: int | None,
    kept_rows: int,
    needs_maximum: bool,
) -> None:
    of = Arguments("contrastive_lse", rectangle)
    of.workspace(workspace)
    of.kept_rows(kept_rows, layout)


def contrastive_lse_backward(
    layout: KeptLayout,
    rectangle: Rectangle,
    grad_positive: Tensor,
    grad_total: Tensor,
    shift: Tensor,
    kept: Tensor,
    workspace: int | None,
    wants: Sides,
) -> None:
    of = Arguments("contrastive_lse_backward", rectangle)
    of.vector("grad_positive", grad_positive, of.M)
    of.vector("grad_total", grad_total, sum(rectangle.lengths))
    of.vector("shift", shift, sum(rectangle.lengths))
    of.kept(kept, layout)
    of.workspace(workspace)


def prefix_lse(
    layout: KeptLayout, rectangle: Rectangle, dims: Sequence[int], kept_rows: int
) -> None:
    of = Arguments("prefix_lse", rectangle)
    of.dims(dims)
    of.kept_rows(kept_rows, layout)


def prefix_lse_backward(
    layout: KeptLayout,
    rectangle: Rectangle,
    dims: Sequence[int],
    grad_positive: Tensor,
    grad_total: Tensor,
    positive: Tensor,
    maximum: Tensor,
    kept: Tensor,
    wants: Sides,
) -> None:
    of, K = Arguments("prefix_lse_backward", rectangle), len(dims)
    of.dims(dims)
    of.matrix("grad_positive", grad_positive, K, of.M)
    of.matrix("grad_total", grad_total, K, of.M + of.N)
    of.matrix("positive", positive, K, of.M)
    of.matrix("maximum", maximum, K, of.M + of.N)
    of.kept(kept, layout, K)


def siglip_sum(
    layout: KeptLayout,
    rectangle: Rectangle,
    logit_bias: Tensor,
    workspace: int | None,
    kept_rows: int,
) -> None:
    of = Arguments("siglip_sum", rectangle)
    of.scalar("logit_bias", logit_bias)
    of.workspace(workspace)
    of.kept_rows(kept_rows, layout)


def siglip_sum_backward(
    layout: KeptLayout,
    rectangle: Rectangle,
    logit_bias: Tensor,
    grad_row_loss: Tensor,
    kept: Tensor,
    workspace: int | None,
    wants: Sides,
) -> None:
    of = Arguments("siglip_sum_backward", rectangle)
    of.scalar("logit_bias", logit_bias)
    of.vector("grad_row_loss", grad_row_loss, of.M)
    of.kept(kept, layout)
    of.workspace(workspace)


def siglip_sum_with_gradients(
    layout: KeptLayout,
    rectangle: Rectangle,
    logit_bias: Tensor,
    workspace: int | None,
    grad_dtype: torch.dtype,
    wants: Sides,
) -> None:
    of = Arguments("siglip_total", rectangle)
    of.scalar("logit_bias", logit_bias)
    of.workspace(workspace)
