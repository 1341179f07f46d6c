"""fastclip::siglip_sum, the sigmoid primitive, as a registered operator.

For the mathematics see `fastclip/backends/reference.py`. `kept` belongs to the backend.
"""

import torch

from fastclip.backends.normalization import compute_dtype
from fastclip.ops.calls import call_backend, check_arguments
from fastclip.ops.differentiation import forbid_double_backward, register_gradient
from fastclip.ops.dispatch import kept_like

torch.library.define(
    "fastclip::siglip_sum",
    "(Tensor row_features, Tensor col_features, Tensor logit_scale, Tensor logit_bias,"
    " SymInt positive_offset, bool normalize, str backend, SymInt? workspace, SymInt kept_rows)"
    " -> (Tensor row_loss, Tensor kept)",
)
torch.library.define(
    "fastclip::siglip_sum_backward",
    "(Tensor grad_row_loss, Tensor row_features, Tensor col_features, Tensor logit_scale,"
    " Tensor logit_bias, Tensor kept, SymInt positive_offset, bool normalize, str backend,"
    " SymInt? workspace, bool needs_row_grad, bool needs_col_grad)"
    " -> (Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale, Tensor grad_logit_bias)",
)
siglip_sum = torch.ops.fastclip.siglip_sum.default
siglip_sum_backward = torch.ops.fastclip.siglip_sum_backward.default


@torch.library.impl("fastclip::siglip_sum", "CompositeExplicitAutograd")
def _forward(
    row_features, col_features, logit_scale, logit_bias, positive_offset, normalize, backend,
    workspace, kept_rows,
):  # fmt: skip
    return call_backend(
        backend, "siglip_sum", row_features,
        row_features, col_features, logit_scale, logit_bias, positive_offset, normalize,
        workspace, kept_rows,
    )  # fmt: skip


@torch.library.register_fake("fastclip::siglip_sum")
def _forward_fake(
    row_features, col_features, logit_scale, logit_bias, positive_offset, normalize, backend,
    workspace, kept_rows,
):  # fmt: skip
    check_arguments(
        backend, "siglip_sum", row_features,
        row_features, col_features, logit_scale, logit_bias, positive_offset, normalize,
        workspace, kept_rows,
    )  # fmt: skip
    M, N = row_features.shape[0], col_features.shape[0]
    dtype = compute_dtype(row_features.dtype)
    return (
        row_features.new_empty((M,), dtype=dtype),
        kept_like(backend, "siglip_sum", row_features, kept_rows, N),
    )


@torch.library.impl("fastclip::siglip_sum_backward", "CompositeExplicitAutograd")
def _backward(
    grad_row_loss, row_features, col_features, logit_scale, logit_bias, kept, positive_offset,
    normalize, backend, workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    return call_backend(
        backend, "siglip_sum_backward", row_features,
        grad_row_loss, row_features, col_features, logit_scale, logit_bias, kept,
        positive_offset, normalize, workspace, needs_row_grad, needs_col_grad,
    )  # fmt: skip


@torch.library.register_fake("fastclip::siglip_sum_backward")
def _backward_fake(
    grad_row_loss, row_features, col_features, logit_scale, logit_bias, kept, positive_offset,
    normalize, backend, workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    check_arguments(
        backend, "siglip_sum_backward", row_features,
        grad_row_loss, row_features, col_features, logit_scale, logit_bias, kept,
        positive_offset, normalize, workspace, needs_row_grad, needs_col_grad,
    )  # fmt: skip
    grad_row = row_features.new_empty(row_features.shape if needs_row_grad else (0,))
    grad_col = col_features.new_empty(col_features.shape if needs_col_grad else (0,))
    return grad_row, grad_col, torch.empty_like(logit_scale), torch.empty_like(logit_bias)


def _setup_context(ctx, inputs, output):
    row_features, col_features, logit_scale, logit_bias, *ctx.settings, _ = inputs
    _, kept = output
    ctx.save_for_backward(row_features, col_features, logit_scale, logit_bias, kept)
    ctx.mark_non_differentiable(kept)
    # The gradient of `kept` is None: materialised, it would be M x N zeros.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_row_loss, _grad_kept):
    if grad_row_loss is None:
        return (None,) * 9
    needs_row_grad, needs_col_grad, needs_scale_grad, needs_bias_grad = ctx.needs_input_grad[:4]
    grad_row, grad_col, grad_logit_scale, grad_logit_bias = siglip_sum_backward(
        grad_row_loss.contiguous(), *ctx.saved_tensors, *ctx.settings,
        needs_row_grad, needs_col_grad,
    )  # fmt: skip
    return (
        grad_row if needs_row_grad else None,
        grad_col if needs_col_grad else None,
        grad_logit_scale if needs_scale_grad else None,
        grad_logit_bias if needs_bias_grad else None,
        None, None, None, None, None,
    )  # fmt: skip


register_gradient(siglip_sum, _setup_context, _gradients)
forbid_double_backward(siglip_sum_backward)
