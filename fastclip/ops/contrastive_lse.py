"""fastclip::contrastive_lse, the softmax primitive, as a registered operator.

For the mathematics, and what (shift, total) mean, see `fastclip/backends/reference.py`. Totals
and positives are differentiable; shifts are constants, and the largest negatives if those are
needed; `kept` belongs to the backend.
"""

import torch

from fastclip.backends.normalization import compute_dtype
from fastclip.ops.calls import call_backend, check_arguments
from fastclip.ops.differentiation import forbid_double_backward, register_gradient
from fastclip.ops.dispatch import kept_like

torch.library.define(
    "fastclip::contrastive_lse",
    "(Tensor row_features, Tensor col_features, Tensor logit_scale, SymInt positive_offset,"
    " bool normalize, str backend, SymInt? workspace, SymInt kept_rows, bool needs_maximum)"
    " -> (Tensor positive, Tensor shift, Tensor total, Tensor kept)",
)
torch.library.define(
    "fastclip::contrastive_lse_backward",
    "(Tensor grad_positive, Tensor grad_total, Tensor row_features, Tensor col_features,"
    " Tensor logit_scale, Tensor shift, Tensor kept,"
    " SymInt positive_offset, bool normalize, str backend, SymInt? workspace,"
    " bool needs_row_grad, bool needs_col_grad)"
    " -> (Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale)",
)
contrastive_lse = torch.ops.fastclip.contrastive_lse.default
contrastive_lse_backward = torch.ops.fastclip.contrastive_lse_backward.default


@torch.library.impl("fastclip::contrastive_lse", "CompositeExplicitAutograd")
def _forward(
    row_features, col_features, logit_scale, positive_offset, normalize, backend, workspace,
    kept_rows, needs_maximum,
):  # fmt: skip
    return call_backend(
        backend, "contrastive_lse", row_features,
        row_features, col_features, logit_scale, positive_offset, normalize, workspace,
        kept_rows, needs_maximum,
    )  # fmt: skip


@torch.library.register_fake("fastclip::contrastive_lse")
def _forward_fake(
    row_features, col_features, logit_scale, positive_offset, normalize, backend, workspace,
    kept_rows, needs_maximum,
):  # fmt: skip
    check_arguments(
        backend, "contrastive_lse", row_features,
        row_features, col_features, logit_scale, positive_offset, normalize, workspace,
        kept_rows, needs_maximum,
    )  # fmt: skip
    M, N = row_features.shape[0], col_features.shape[0]
    dtype = compute_dtype(row_features.dtype)
    shapes = (M,), (M + N,), (M + N,)
    statistics = (row_features.new_empty(shape, dtype=dtype) for shape in shapes)
    return *statistics, kept_like(backend, "contrastive_lse", row_features, kept_rows, N)


@torch.library.impl("fastclip::contrastive_lse_backward", "CompositeExplicitAutograd")
def _backward(
    grad_positive, grad_total, row_features, col_features, logit_scale, shift, kept,
    positive_offset, normalize, backend, workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    return call_backend(
        backend, "contrastive_lse_backward", row_features,
        grad_positive, grad_total, row_features, col_features, logit_scale, shift, kept,
        positive_offset, normalize, workspace, needs_row_grad, needs_col_grad,
    )  # fmt: skip


@torch.library.register_fake("fastclip::contrastive_lse_backward")
def _backward_fake(
    grad_positive, grad_total, row_features, col_features, logit_scale, shift, kept,
    positive_offset, normalize, backend, workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    check_arguments(
        backend, "contrastive_lse_backward", row_features,
        grad_positive, grad_total, row_features, col_features, logit_scale, shift, kept,
        positive_offset, normalize, workspace, needs_row_grad, needs_col_grad,
    )  # fmt: skip
    grad_row = row_features.new_empty(row_features.shape if needs_row_grad else (0,))
    grad_col = col_features.new_empty(col_features.shape if needs_col_grad else (0,))
    return grad_row, grad_col, torch.empty_like(logit_scale)


def _setup_context(ctx, inputs, output):
    row_features, col_features, logit_scale, *ctx.settings, _, _ = inputs
    _, shift, _, kept = output
    ctx.save_for_backward(row_features, col_features, logit_scale, shift, kept)
    ctx.mark_non_differentiable(shift, kept)
    # Unused outputs get None: a materialised gradient of `kept` would be M x N zeros.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_positive, _grad_shift, grad_total, _grad_kept):
    needs_row_grad, needs_col_grad, needs_scale_grad = ctx.needs_input_grad[:3]
    row_features, _, _, shift, _ = ctx.saved_tensors
    if grad_positive is None and grad_total is None:
        return (None,) * 9
    if grad_positive is None:
        grad_positive = shift.new_zeros(len(row_features))
    if grad_total is None:
        grad_total = torch.zeros_like(shift)
    grad_row, grad_col, grad_logit_scale = contrastive_lse_backward(
        grad_positive.contiguous(), grad_total.contiguous(), *ctx.saved_tensors, *ctx.settings,
        needs_row_grad, needs_col_grad,
    )  # fmt: skip
    return (
        grad_row if needs_row_grad else None,
        grad_col if needs_col_grad else None,
        grad_logit_scale if needs_scale_grad else None,
        None, None, None, None, None, None,
    )  # fmt: skip


register_gradient(contrastive_lse, _setup_context, _gradients)
forbid_double_backward(contrastive_lse_backward)
