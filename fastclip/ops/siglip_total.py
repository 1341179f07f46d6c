"""fastclip::siglip_total, the sum of all sigmoid losses, with its gradients from the same pass.

    total = sum_i row_loss_i of `siglip_sum`;  grad_input = grad_total * d total / d input

The gradient of the logits needs no statistics: a backend that computes it while a tile of logits is
at hand saves one of four products. The forward knows which gradients are wanted and returns them as
further outputs, which are constants of the differentiation. The backward multiplies these gradients
by grad_total: in place if the graph is not retained, because allocating new memory would take
longer than the multiplication. Therefore nothing but the backward may use them. Until then, the
gradients of float16 features are in float32: they are gradients of a sum, which may exceed 65,504.
Tensors under torch.func.vmap do not say that they need a gradient; a gradient that the forward did
not expect is computed by `siglip_sum`.
"""

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops import schemas
from fastclip.ops.arguments import Arguments
from fastclip.ops.calls import gradients_like, implement
from fastclip.ops.differentiation import forbid_double_backward, register_gradient
from fastclip.ops.dispatch import Call, kept_like
from fastclip.ops.schemas import NUM_ARGUMENTS, NUM_TENSORS, flat, rectangle_of
from fastclip.ops.siglip_sum import in_places_of_inputs
from fastclip.rectangle import Rectangle, Sides


def siglip_total(rectangle: Rectangle, logit_bias: Tensor, call: Call) -> Tensor:
    """Return the sum of all sigmoid losses of a rectangle, (); one pass computes the gradients too.

    Args:
        rectangle: M rows and N columns.
        logit_bias: (), of logit_scale's dtype; added to every logit.
        call: how the rectangle is computed, from `dispatch.plan`; its backend has the one pass.
    """
    wants = rectangle.rows.requires_grad, rectangle.cols.requires_grad
    total, *_ = schemas.siglip_total(
        *flat(rectangle), logit_bias, call.backend, call.workspace, *wants
    )
    return total


def waiting_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float16 else dtype


def _call(arguments):
    rectangle, (logit_bias, backend, workspace, of_rows, of_cols) = rectangle_of(arguments)
    dtype, wants = waiting_dtype(rectangle.rows.dtype), Sides(of_rows, of_cols)
    return backend, "siglip_sum_with_gradients", rectangle, logit_bias, workspace, dtype, wants


def _results_like(backend, function, rectangle, logit_bias, workspace, dtype, wants):
    return (
        rectangle.rows.new_empty((), dtype=compute_dtype(rectangle.rows.dtype)),
        *gradients_like(rectangle, wants, dtype),
        torch.empty_like(rectangle.logit_scale),
        torch.empty_like(logit_bias),
    )


@torch.library.impl("fastclip::siglip_total_backward", "CompositeExplicitAutograd")
def _backward(grad_total, *arguments):
    _check_backward(grad_total, *arguments)
    return _scaled(arguments, lambda x: grad_total * x)


@torch.library.register_fake("fastclip::siglip_total_backward")
def _backward_fake(grad_total, *arguments):
    _check_backward(grad_total, *arguments)
    row_features, _, _, _, grad_row, grad_col, *of_scalars = arguments
    of_features = (torch.empty_like(x, dtype=row_features.dtype) for x in (grad_row, grad_col))
    return *of_features, *map(torch.empty_like, of_scalars)


def _check_backward(grad_total, row_features, col_features, logit_scale, logit_bias, *gradients):
    rectangle = Rectangle(row_features, col_features, logit_scale, None)
    of = Arguments("siglip_total_backward", rectangle)
    grad_row, grad_col, grad_logit_scale, grad_logit_bias = gradients
    of.scalar("grad_total", grad_total)
    of.scalar("logit_bias", logit_bias)
    dtype = waiting_dtype(row_features.dtype)
    of.gradient("grad_row", grad_row, of.M, dtype)
    of.gradient("grad_col", grad_col, of.N, dtype)
    of.scalar("grad_logit_scale", grad_logit_scale)
    of.scalar("grad_logit_bias", grad_logit_bias)


def _scaled(arguments, scale):
    row_features, _, _, _, grad_row, grad_col, *of_scalars = arguments
    of_features = (scale(x).to(row_features.dtype) for x in (grad_row, grad_col))
    return *of_features, *map(scale, of_scalars)


def _is_the_last(grad_total):
    """Return whether no other backward, nor a derivative of this one, can need saved tensors."""
    follows = torch.is_grad_enabled() or torch._C._autograd._get_current_graph_task_keep_graph()
    is_plain = type(grad_total) is Tensor and not torch._C._are_functorch_transforms_active()
    return is_plain and not follows


def _setup_context(ctx, inputs, output):
    tensors, ctx.of_rectangle = inputs[:NUM_TENSORS], inputs[NUM_TENSORS:NUM_ARGUMENTS]
    logit_bias, *ctx.settings, of_rows, of_cols = inputs[NUM_ARGUMENTS:]
    ctx.has_feature_grads = of_rows, of_cols
    _, *gradients = output
    ctx.save_for_backward(*tensors, logit_bias, *gradients)
    ctx.mark_non_differentiable(*gradients)
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_total, *_):
    needs = ctx.needs_input_grad
    if grad_total is None:
        return (None,) * len(needs)
    tensors, (logit_bias, *saved) = ctx.saved_tensors[:NUM_TENSORS], ctx.saved_tensors[NUM_TENSORS:]
    if all(there or not need for there, need in zip(ctx.has_feature_grads, needs[:2], strict=True)):
        saved = *tensors[:3], logit_bias, *saved
        if _is_the_last(grad_total):
            _check_backward(grad_total, *saved)
            gradients = _scaled(saved, lambda x: x.mul_(grad_total))
        else:
            gradients = schemas.siglip_total_backward(grad_total, *saved)
    else:
        gradients = _gradients_of_rows(ctx, grad_total, tensors, logit_bias)
    return in_places_of_inputs(gradients, needs)


def _gradients_of_rows(ctx, grad_total, tensors, logit_bias):
    row_features, col_features = tensors[:2]
    backend, _ = ctx.settings
    grad_row_loss = grad_total.repeat(row_features.shape[0])
    kept = kept_like(backend, "siglip_sum", row_features, 0, col_features.shape[0])
    return schemas.siglip_sum_backward(
        *tensors, *ctx.of_rectangle, logit_bias, grad_row_loss, kept, *ctx.settings,
        *ctx.needs_input_grad[:2],
    )  # fmt: skip


implement(schemas.siglip_total, _call, _results_like)
register_gradient(schemas.siglip_total, _setup_context, _gradients)
forbid_double_backward(schemas.siglip_total_backward)
