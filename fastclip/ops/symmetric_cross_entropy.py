"""From the statistics of `contrastive_lse` to the CLIP loss of a square rectangle, and back.

For rows and columns alike, as (2, B):
    nll    = -log p = softplus(maximum + log total - positive)
    loss_i = (nll_0i + nll_1i) / 2
    d total    = w (1 - p) / total
    d positive = -(w (1 - p_0) + w (1 - p_1)),      w = grad_output / 2 (for the mean: / 2B)

1 - p is -expm1(-nll): a model that fits, with nll = 1e-12, keeps its gradient; p - 1 would be 0.

One autograd node instead of the dozen that the formulas compose to: at a batch of 64 those would
cost as much as the matrix products. The native CPU backend goes further in eager mode and has the
same node in C++ (`csrc/cpu/clip_loss.cpp`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.ops.contrastive_lse import contrastive_lse, contrastive_lse_backward


def symmetric_cross_entropy(
    row_features: Tensor,  # (B, D)
    col_features: Tensor,  # (B, D)
    logit_scale: Tensor,  # ()
    mean: bool,
    normalize: bool,
    backend: str,
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns loss () or (B,); and without gradients positive (B,), maximum (2, B)."""
    if backend == "cpu" and not torch.compiler.is_compiling() and _has_data(row_features):
        return torch.ops.fastclip_native.clip_loss(
            row_features, col_features, logit_scale, mean, normalize, kept_rows
        )
    return _SymmetricCrossEntropy.apply(
        row_features, col_features, logit_scale, mean, normalize, backend, workspace, kept_rows
    )


def _has_data(features: Tensor) -> bool:
    # Subclasses (fake, functional, distributed tensors) need an operator that they can intercept.
    return type(features) in (Tensor, torch.nn.Parameter)


class _SymmetricCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        row_features: Tensor,  # (B, D)
        col_features: Tensor,  # (B, D)
        logit_scale: Tensor,  # ()
        mean: bool,
        normalize: bool,
        backend: str,
        workspace: int | None,
        kept_rows: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        positive, maximum, total, kept = contrastive_lse(
            row_features, col_features, logit_scale, 0, normalize, backend, workspace, kept_rows
        )
        by_side = maximum.view(2, -1)
        # softplus(x) is taken to be x beyond 40: e^-40 is below the rounding of a double.
        nll = F.softplus(
            (by_side - positive) + total.view(2, -1).log(), beta=1.0, threshold=40.0
        )
        ctx.save_for_backward(row_features, col_features, logit_scale, maximum, kept, total, nll)
        ctx.settings = (0, normalize, backend, workspace)
        ctx.weight = 0.5 / len(positive) if mean else 0.5
        ctx.mark_non_differentiable(positive, by_side)
        ctx.set_materialize_grads(False)
        return nll.mean() if mean else nll.mean(0), positive, by_side

    @staticmethod
    def backward(ctx, grad_loss, _grad_positive, _grad_maximum):
        *inputs, total, nll = ctx.saved_tensors
        needs_row_grad, needs_col_grad, needs_scale_grad = ctx.needs_input_grad[:3]
        excess = (-nll).expm1() * (grad_loss * -ctx.weight)  # w (1 - p)
        grad_row, grad_col, grad_logit_scale = contrastive_lse_backward(
            excess.sum(0).neg(), excess.view(-1) / total, *inputs, *ctx.settings,
            needs_row_grad, needs_col_grad,
        )  # fmt: skip
        return (
            grad_row if needs_row_grad else None,
            grad_col if needs_col_grad else None,
            grad_logit_scale if needs_scale_grad else None,
            None, None, None, None, None,
        )  # fmt: skip
