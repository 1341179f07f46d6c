"""fastclip::prefix_lse: the softmax primitive of several prefixes of the features, in one pass.

For K lengths d_1 < .. < d_K = D of prefixes, each normalised on its own,

    logits_k = logit_scale unit(rows[:, :d_k]) unit(cols[:, :d_k])^T

and each prefix has the statistics of `contrastive_lse`, with pairs on the main diagonal and nothing
left out. A backend with this operator computes one running product over the blocks of elements
between two lengths, and the gradients likewise: the products cost no more than for the longest
prefix alone.
"""

from typing import Any

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops import schemas
from fastclip.ops.calls import gradients_like, implement
from fastclip.ops.cross_entropy import negative_log_probability
from fastclip.ops.differentiation import forbid_double_backward, needs_grad, register_gradient
from fastclip.ops.dispatch import kept_like, kept_rows
from fastclip.rectangle import MAIN_DIAGONAL, Rectangle, Sides


def prefix_losses(
    square: Rectangle, dims: tuple[int, ...], backend: str, workspace: int | None
) -> Tensor:
    """Return the mean CLIP loss of each prefix of normalised features, (K,).

    Args:
        square: B rows and columns with pairs on the main diagonal; nothing is left out.
        dims: the lengths of the prefixes in ascending order; the last one is D.
        backend: a backend that has `prefix_lse`.
        workspace: bytes of memory for the logits of all prefixes; None is the backend's own bound.
    """
    rows, K, kept = square.rows, len(dims), 0
    if needs_grad(*square[:3]):
        B = rows.shape[0]
        kept = kept_rows(backend, "contrastive_lse", B, K * B, rows.dtype, workspace)
    positive, maximum, total, _ = schemas.prefix_lse(*square[:3], dims, backend, kept)
    by_side = K, 2, -1
    nll = negative_log_probability(
        positive.unsqueeze(1), maximum.view(by_side), total.view(by_side)
    )
    return nll.mean((1, 2))


def _rectangle_of(arguments: tuple[Any, ...]) -> tuple[Rectangle, tuple[Any, ...]]:
    rows, cols, logit_scale, *others = arguments
    return Rectangle(rows, cols, logit_scale, MAIN_DIAGONAL, normalize=True), tuple(others)


def _forward_call(arguments):
    rectangle, (dims, backend, kept_rows) = _rectangle_of(arguments)
    return backend, "prefix_lse", rectangle, dims, kept_rows


def _statistics_like(backend, function, rectangle, dims, kept_rows):
    (M, N), K = rectangle.lengths, len(dims)
    dtype = compute_dtype(rectangle.rows.dtype)
    shapes = (K, M), (K, M + N), (K, M + N)
    statistics = (rectangle.rows.new_empty(shape, dtype=dtype) for shape in shapes)
    return *statistics, kept_like(backend, "contrastive_lse", rectangle.rows, kept_rows, K * N)


def _backward_call(arguments):
    rectangle, (dims, *tensors, backend, of_rows, of_cols) = _rectangle_of(arguments)
    return backend, "prefix_lse_backward", rectangle, dims, *tensors, Sides(of_rows, of_cols)


def _gradients_like(backend, function, rectangle, *others):
    *_, wants = others
    return *gradients_like(rectangle, wants), torch.empty_like(rectangle.logit_scale)


def _setup_context(ctx, inputs, output):
    *tensors, ctx.dims, ctx.backend, _ = inputs
    positive, maximum, _, kept = output
    ctx.save_for_backward(*tensors, positive, maximum, kept)
    ctx.mark_non_differentiable(maximum, kept)
    # Unused outputs get None: a materialised gradient of `kept` would be K M x N zeros.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_positive, _grad_maximum, grad_total, _grad_kept):
    *tensors, positive, maximum, kept = ctx.saved_tensors
    needs = ctx.needs_input_grad
    if grad_positive is None and grad_total is None:
        return (None,) * len(needs)
    if grad_positive is None:
        grad_positive = torch.zeros_like(positive)
    if grad_total is None:
        grad_total = torch.zeros_like(maximum)
    gradients = schemas.prefix_lse_backward(
        *tensors, ctx.dims, grad_positive.contiguous(), grad_total.contiguous(), positive, maximum,
        kept, ctx.backend, *needs[:2],
    )  # fmt: skip
    of_tensors = (x if need else None for x, need in zip(gradients, needs[:3], strict=True))
    return *of_tensors, *(None,) * (len(needs) - 3)


implement(schemas.prefix_lse, _forward_call, _statistics_like)
implement(schemas.prefix_lse_backward, _backward_call, _gradients_like)
register_gradient(schemas.prefix_lse, _setup_context, _gradients)
forbid_double_backward(schemas.prefix_lse_backward)
