"""fastclip::contrastive_lse, the softmax primitive, as a registered operator.

For the mathematics, and what (max, sum) mean, see `fastclip/backends/reference.py`. The sums and
the positives are differentiable; the maxima are constants; `kept` belongs to the backend.
"""

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops.dispatch import load_backend
from fastclip.ops.once_differentiable import forbid_double_backward

torch.library.define(
    "fastclip::contrastive_lse",
    "(Tensor row_features, Tensor col_features, Tensor logit_scale, SymInt positive_offset,"
    " bool normalize, str backend, SymInt? workspace, SymInt kept_rows)"
    " -> (Tensor positive, Tensor row_max, Tensor row_sum, Tensor col_max, Tensor col_sum,"
    " Tensor kept)",
)
torch.library.define(
    "fastclip::contrastive_lse_backward",
    "(Tensor grad_positive, Tensor grad_row_sum, Tensor grad_col_sum, Tensor row_features,"
    " Tensor col_features, Tensor logit_scale, Tensor row_max, Tensor col_max, Tensor kept,"
    " SymInt positive_offset, bool normalize, str backend, SymInt? workspace,"
    " bool needs_row_grad, bool needs_col_grad)"
    " -> (Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale)",
)
contrastive_lse = torch.ops.fastclip.contrastive_lse.default
contrastive_lse_backward = torch.ops.fastclip.contrastive_lse_backward.default


@torch.library.impl("fastclip::contrastive_lse", "CompositeExplicitAutograd")
def _forward(
    row_features, col_features, logit_scale, positive_offset, normalize, backend, workspace,
    kept_rows,
):  # fmt: skip
    return load_backend(backend).contrastive_lse(
        row_features, col_features, logit_scale, positive_offset, normalize, workspace, kept_rows
    )


@torch.library.register_fake("fastclip::contrastive_lse")
def _forward_fake(
    row_features, col_features, logit_scale, positive_offset, normalize, backend, workspace,
    kept_rows,
):  # fmt: skip
    M, N = row_features.shape[0], col_features.shape[0]
    dtype = compute_dtype(row_features.dtype)
    shapes = (M,), (M,), (M,), (N,), (N,), (kept_rows, N)
    return tuple(row_features.new_empty(shape, dtype=dtype) for shape in shapes)


@torch.library.impl("fastclip::contrastive_lse_backward", "CompositeExplicitAutograd")
def _backward(
    grad_positive, grad_row_sum, grad_col_sum, row_features, col_features, logit_scale, row_max,
    col_max, kept, positive_offset, normalize, backend, workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    return load_backend(backend).contrastive_lse_backward(
        grad_positive, grad_row_sum, grad_col_sum, row_features, col_features, logit_scale,
        row_max, col_max, kept, positive_offset, normalize, workspace, needs_row_grad,
        needs_col_grad,
    )  # fmt: skip


@torch.library.register_fake("fastclip::contrastive_lse_backward")
def _backward_fake(
    grad_positive, grad_row_sum, grad_col_sum, row_features, col_features, logit_scale, row_max,
    col_max, kept, positive_offset, normalize, backend, workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    grad_row = row_features.new_empty(row_features.shape if needs_row_grad else (0,))
    grad_col = col_features.new_empty(col_features.shape if needs_col_grad else (0,))
    return grad_row, grad_col, torch.empty_like(logit_scale)


def _setup_context(ctx, inputs, output):
    row_features, col_features, logit_scale, *ctx.settings, _ = inputs
    _, row_max, _, col_max, _, kept = output
    ctx.save_for_backward(row_features, col_features, logit_scale, row_max, col_max, kept)
    ctx.mark_non_differentiable(row_max, col_max, kept)
    # Unused outputs get None: a materialised gradient of `kept` would be M x N zeros.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_positive, _row_max, grad_row_sum, _col_max, grad_col_sum, _kept):
    needs_row_grad, needs_col_grad, needs_scale_grad = ctx.needs_input_grad[:3]
    *_, row_max, col_max, _ = ctx.saved_tensors
    grad_row, grad_col, grad_logit_scale = contrastive_lse_backward(
        _dense(grad_positive, row_max), _dense(grad_row_sum, row_max),
        _dense(grad_col_sum, col_max), *ctx.saved_tensors, *ctx.settings,
        needs_row_grad, needs_col_grad,
    )  # fmt: skip
    return (
        grad_row if needs_row_grad else None,
        grad_col if needs_col_grad else None,
        grad_logit_scale if needs_scale_grad else None,
        None, None, None, None, None,
    )  # fmt: skip


def _dense(grad: Tensor | None, like: Tensor) -> Tensor:
    """The gradient of an output, zero where the loss does not use it."""
    return torch.zeros_like(like) if grad is None else grad.contiguous()


torch.library.register_autograd(
    "fastclip::contrastive_lse", _gradients, setup_context=_setup_context
)
forbid_double_backward("fastclip::contrastive_lse_backward")
