"""fastclip::siglip_total, the sum of all sigmoid losses, with its gradients from the same pass.

    total = sum_i row_loss_i of `siglip_sum`;  the gradient of an input is grad_total times its own

The gradient of the logits needs no statistics: a backend that forms it while the tile of logits is
there saves one of four products. Which gradients are wanted is known in the forward, so they are
its outputs, constants of the differentiation, and the backward multiplies them. Those of float16
features wait in float32: they are gradients of a sum, which may pass 65,504. A gradient that is
wanted against expectation, because tensors under torch.func.vmap do not say that they need one, is
that of `siglip_sum`.
"""

import torch

from fastclip.backends.normalization import compute_dtype
from fastclip.ops.arguments import Arguments
from fastclip.ops.calls import call_backend, check_arguments
from fastclip.ops.differentiation import forbid_double_backward, register_gradient
from fastclip.ops.dispatch import kept_like
from fastclip.ops.siglip_sum import siglip_sum_backward

torch.library.define(
    "fastclip::siglip_total",
    "(Tensor row_features, Tensor col_features, Tensor logit_scale, Tensor logit_bias,"
    " SymInt positive_offset, bool normalize, str backend, SymInt? workspace,"
    " bool needs_row_grad, bool needs_col_grad)"
    " -> (Tensor total, Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale,"
    " Tensor grad_logit_bias)",
)
torch.library.define(
    "fastclip::siglip_total_backward",
    "(Tensor grad_total, Tensor row_features, Tensor col_features, Tensor logit_scale,"
    " Tensor logit_bias, Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale,"
    " Tensor grad_logit_bias) -> (Tensor, Tensor, Tensor, Tensor)",
)
siglip_total = torch.ops.fastclip.siglip_total.default
siglip_total_backward = torch.ops.fastclip.siglip_total_backward.default


def waiting_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float16 else dtype


@torch.library.impl("fastclip::siglip_total", "CompositeExplicitAutograd")
def _forward(
    row_features, col_features, logit_scale, logit_bias, positive_offset, normalize, backend,
    workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    return call_backend(
        backend, "siglip_sum_with_gradients", row_features,
        row_features, col_features, logit_scale, logit_bias, positive_offset, normalize,
        workspace, waiting_dtype(row_features.dtype), needs_row_grad, needs_col_grad,
    )  # fmt: skip


@torch.library.register_fake("fastclip::siglip_total")
def _forward_fake(
    row_features, col_features, logit_scale, logit_bias, positive_offset, normalize, backend,
    workspace, needs_row_grad, needs_col_grad,
):  # fmt: skip
    dtype = waiting_dtype(row_features.dtype)
    check_arguments(
        backend, "siglip_sum_with_gradients", row_features,
        row_features, col_features, logit_scale, logit_bias, positive_offset, normalize,
        workspace, dtype, needs_row_grad, needs_col_grad,
    )  # fmt: skip
    sides = ((row_features, needs_row_grad), (col_features, needs_col_grad))
    return (
        row_features.new_empty((), dtype=compute_dtype(row_features.dtype)),
        *(x.new_empty(x.shape if needed else (0,), dtype=dtype) for x, needed in sides),
        torch.empty_like(logit_scale),
        torch.empty_like(logit_bias),
    )


@torch.library.impl("fastclip::siglip_total_backward", "CompositeExplicitAutograd")
def _backward(
    grad_total, row_features, col_features, logit_scale, logit_bias, grad_row, grad_col,
    grad_logit_scale, grad_logit_bias,
):  # fmt: skip
    _check_backward(
        grad_total, row_features, col_features, logit_scale, logit_bias, grad_row, grad_col,
        grad_logit_scale, grad_logit_bias,
    )  # fmt: skip
    # The inputs are here for those who differentiate again: they get an error and not a zero.
    of_features = ((grad_total * x).to(row_features.dtype) for x in (grad_row, grad_col))
    return *of_features, grad_total * grad_logit_scale, grad_total * grad_logit_bias


@torch.library.register_fake("fastclip::siglip_total_backward")
def _backward_fake(
    grad_total, row_features, col_features, logit_scale, logit_bias, grad_row, grad_col,
    grad_logit_scale, grad_logit_bias,
):  # fmt: skip
    _check_backward(
        grad_total, row_features, col_features, logit_scale, logit_bias, grad_row, grad_col,
        grad_logit_scale, grad_logit_bias,
    )  # fmt: skip
    of_features = (torch.empty_like(x, dtype=row_features.dtype) for x in (grad_row, grad_col))
    return *of_features, torch.empty_like(grad_logit_scale), torch.empty_like(grad_logit_bias)


def _check_backward(
    grad_total, row_features, col_features, logit_scale, logit_bias, grad_row, grad_col,
    grad_logit_scale, grad_logit_bias,
):  # fmt: skip
    of = Arguments("siglip_total_backward", row_features, col_features)
    of.scalar("grad_total", grad_total)
    of.scalar("logit_scale", logit_scale)
    of.scalar("logit_bias", logit_bias)
    dtype = waiting_dtype(row_features.dtype)
    of.gradient("grad_row", grad_row, of.M, dtype)
    of.gradient("grad_col", grad_col, of.N, dtype)
    of.scalar("grad_logit_scale", grad_logit_scale)
    of.scalar("grad_logit_bias", grad_logit_bias)


def _setup_context(ctx, inputs, output):
    *tensors, positive_offset, normalize, backend, workspace = inputs[:8]
    _, *gradients = output
    ctx.settings = positive_offset, normalize, backend, workspace
    ctx.has_feature_grads = inputs[8:]
    ctx.save_for_backward(*tensors, *gradients)
    ctx.mark_non_differentiable(*gradients)
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_total, *_):
    if grad_total is None:
        return (None,) * 10
    needed = ctx.needs_input_grad[:4]
    expected = *ctx.has_feature_grads, True, True
    if all(there or not need for there, need in zip(expected, needed, strict=True)):
        # The inputs, in the order of the forward's arguments, are also that of the results.
        gradients = siglip_total_backward(grad_total, *ctx.saved_tensors)
    else:
        gradients = _gradients_of_rows(ctx, grad_total)
    return *(x if need else None for x, need in zip(gradients, needed, strict=True)), *(None,) * 6


def _gradients_of_rows(ctx, grad_total):
    inputs = ctx.saved_tensors[:4]
    row_features, col_features = inputs[:2]
    _, _, backend, _ = ctx.settings
    grad_row_loss = grad_total.repeat(row_features.shape[0])
    kept = kept_like(backend, "siglip_sum", row_features, 0, col_features.shape[0])
    return siglip_sum_backward(
        grad_row_loss, *inputs, kept, *ctx.settings, *ctx.needs_input_grad[:2]
    )


register_gradient(siglip_total, _setup_context, _gradients)
forbid_double_backward(siglip_total_backward)
