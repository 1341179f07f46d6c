"""fastclip::siglip_sum, the sigmoid primitive, as a registered operator.

For the mathematics see `fastclip/backends/reference.py`. Only the backend knows the content of
`kept`.
"""

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops import schemas
from fastclip.ops.calls import gradients_like, implement
from fastclip.ops.differentiation import forbid_double_backward, register_gradient
from fastclip.ops.dispatch import Call, kept_like
from fastclip.ops.schemas import NUM_ARGUMENTS, NUM_TENSORS, flat, rectangle_of
from fastclip.rectangle import Rectangle, Sides


def siglip_sum(rectangle: Rectangle, logit_bias: Tensor, call: Call) -> tuple[Tensor, Tensor]:
    """Return the sigmoid losses of a rectangle, summed over each row.

    Args:
        rectangle: M rows and N columns.
        logit_bias: (), of logit_scale's dtype; added to every logit.
        call: how the rectangle is computed, from `dispatch.plan`.

    Returns:
        row_loss: (M,), differentiable.
        kept: the logits that the backend keeps for its backward.
    """
    return schemas.siglip_sum(
        *flat(rectangle), logit_bias, call.backend, call.workspace, call.kept_rows
    )


def siglip_sum_backward(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    call: Call,
    grad_row_loss: Tensor,  # (M,)
    kept: Tensor,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of rows, columns, scale and bias; (0,) for an unwanted one."""
    return schemas.siglip_sum_backward(
        *flat(rectangle), logit_bias, grad_row_loss, kept, call.backend, call.workspace, *wants
    )


def _forward_call(arguments):
    rectangle, (logit_bias, backend, *others) = rectangle_of(arguments)
    return backend, "siglip_sum", rectangle, logit_bias, *others


def _losses_like(backend, function, rectangle, logit_bias, workspace, kept_rows):
    rows, cols = rectangle[:2]
    return (
        rows.new_empty((rows.shape[0],), dtype=compute_dtype(rows.dtype)),
        kept_like(backend, function, rows, kept_rows, cols.shape[0]),
    )


def _backward_call(arguments):
    rectangle, (*tensors, backend, workspace, of_rows, of_cols) = rectangle_of(arguments)
    wants = Sides(of_rows, of_cols)
    return backend, "siglip_sum_backward", rectangle, *tensors, workspace, wants


def _gradients_like(backend, function, rectangle, logit_bias, *others):
    *_, wants = others
    scalars = rectangle.logit_scale, logit_bias
    return *gradients_like(rectangle, wants), *map(torch.empty_like, scalars)


def _setup_context(ctx, inputs, output):
    tensors, ctx.of_rectangle = inputs[:NUM_TENSORS], inputs[NUM_TENSORS:NUM_ARGUMENTS]
    logit_bias, *ctx.settings, _ = inputs[NUM_ARGUMENTS:]
    _, kept = output
    ctx.save_for_backward(*tensors, logit_bias, kept)
    ctx.mark_non_differentiable(kept)
    # The gradient of `kept` is None: materialised, it would be M x N zeros.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_row_loss, _grad_kept):
    needs = ctx.needs_input_grad
    if grad_row_loss is None:
        return (None,) * len(needs)
    *tensors, logit_bias, kept = ctx.saved_tensors
    gradients = schemas.siglip_sum_backward(
        *tensors, *ctx.of_rectangle, logit_bias, grad_row_loss.contiguous(), kept, *ctx.settings,
        *needs[:2],
    )  # fmt: skip
    return in_places_of_inputs(gradients, needs)


def in_places_of_inputs(gradients, needs):
    """Put the gradients of rows, columns, scale and bias at the places of these arguments."""
    places = [None] * len(needs)
    for place, gradient in zip((0, 1, 2, NUM_ARGUMENTS), gradients, strict=True):
        if needs[place]:
            places[place] = gradient
    return tuple(places)


implement(schemas.siglip_sum, _forward_call, _losses_like)
implement(schemas.siglip_sum_backward, _backward_call, _gradients_like)
register_gradient(schemas.siglip_sum, _setup_context, _gradients)
forbid_double_backward(schemas.siglip_sum_backward)
