"""fastclip::contrastive_lse, the softmax primitive, as a registered operator.

For the mathematics and the meaning of (shift, total) see `fastclip/backends/reference.py`. Totals
and positives are differentiable. Shifts are constants, and are the largest negatives if the caller
needs these. Only the backend knows the content of `kept`.
"""

from typing import Any

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops import schemas
from fastclip.ops.calls import gradients_like, implement
from fastclip.ops.differentiation import forbid_double_backward, register_gradient
from fastclip.ops.dispatch import Call, kept_like
from fastclip.ops.schemas import NUM_TENSORS, flat, rectangle_of
from fastclip.rectangle import Rectangle, Sides


def contrastive_lse(
    rectangle: Rectangle, call: Call, needs_maximum: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the logits of a rectangle's pairs, and the sums of exponentials of its negatives.

    Args:
        rectangle: M rows and N columns.
        call: how the rectangle is computed, from `dispatch.plan`.
        needs_maximum: whether the shifts must be the largest negatives; otherwise any shift may be
            used, which saves a product on some backends.

    Returns:
        positive: (M,), the logit of each row's pair; 0 where it has none. Differentiable.
        shift, total: for the sides that are wanted, rows first: (M,), (N,) or (M + N,). The
            log-sum-exp of a row's or column's negatives is shift + log(total); a row or column
            without negatives has (-inf, 1). Totals are differentiable, shifts are constants.
        kept: the logits that the backend keeps for its backward.
    """
    return schemas.contrastive_lse(
        *flat(rectangle), *rectangle.sides, call.backend, call.workspace, call.kept_rows,
        needs_maximum,
    )  # fmt: skip


def contrastive_lse_backward(
    rectangle: Rectangle,
    call: Call,
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (sum of lengths,)
    shift: Tensor,  # (sum of lengths,)
    kept: Tensor,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of rows, columns and logit_scale; (0,) for an unwanted one."""
    return schemas.contrastive_lse_backward(
        *flat(rectangle), *rectangle.sides, grad_positive, grad_total, shift, kept,
        call.backend, call.workspace, *wants,
    )  # fmt: skip


def _rectangle_of(arguments: tuple[Any, ...]) -> tuple[Rectangle, tuple[Any, ...]]:
    rectangle, (of_rows, of_cols, *others) = rectangle_of(arguments)
    return rectangle._replace(sides=Sides(of_rows, of_cols)), tuple(others)


def _forward_call(arguments):
    rectangle, (backend, *others) = _rectangle_of(arguments)
    return backend, "contrastive_lse", rectangle, *others


def _statistics_like(backend, function, rectangle, workspace, kept_rows, needs_maximum):
    rows, cols = rectangle[:2]
    num_statistics, dtype = sum(rectangle.lengths), compute_dtype(rows.dtype)
    shapes = (rows.shape[0],), (num_statistics,), (num_statistics,)
    statistics = (rows.new_empty(shape, dtype=dtype) for shape in shapes)
    return *statistics, kept_like(backend, function, rows, kept_rows, cols.shape[0])


def _backward_call(arguments):
    rectangle, (*tensors, backend, workspace, of_rows, of_cols) = _rectangle_of(arguments)
    wants = Sides(of_rows, of_cols)
    return backend, "contrastive_lse_backward", rectangle, *tensors, workspace, wants


def _gradients_like(backend, function, rectangle, *others):
    *_, wants = others
    return *gradients_like(rectangle, wants), torch.empty_like(rectangle.logit_scale)


def _setup_context(ctx, inputs, output):
    tensors, ctx.settings = inputs[:NUM_TENSORS], inputs[NUM_TENSORS:-2]
    _, shift, _, kept = output
    ctx.save_for_backward(*tensors, shift, kept)
    ctx.mark_non_differentiable(shift, kept)
    # Unused outputs get None: a materialised gradient of `kept` would be M x N zeros.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_positive, _grad_shift, grad_total, _grad_kept):
    *tensors, shift, kept = ctx.saved_tensors
    *of_rectangle, backend, workspace = ctx.settings
    needs = ctx.needs_input_grad
    if grad_positive is None and grad_total is None:
        return (None,) * len(needs)
    if grad_positive is None:
        grad_positive = shift.new_zeros(len(tensors[0]))
    if grad_total is None:
        grad_total = torch.zeros_like(shift)
    gradients = schemas.contrastive_lse_backward(
        *tensors, *of_rectangle, grad_positive.contiguous(), grad_total.contiguous(), shift, kept,
        backend, workspace, *needs[:2],
    )  # fmt: skip
    of_tensors = (x if need else None for x, need in zip(gradients, needs[:3], strict=True))
    return *of_tensors, *(None,) * (len(needs) - 3)


implement(schemas.contrastive_lse, _forward_call, _statistics_like)
implement(schemas.contrastive_lse_backward, _backward_call, _gradients_like)
register_gradient(schemas.contrastive_lse, _setup_context, _gradients)
forbid_double_backward(schemas.contrastive_lse_backward)
