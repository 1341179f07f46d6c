"""The mean CLIP loss of a square as one node of autograd, where a backend computes it in one step.

The formulas are the same as in `cross_entropy.py`, which serves all other cases: its dozen nodes
take the host longer than a GPU needs for a batch of a few thousand. Batches of gradients are left
to the registered operators, and a second derivative raises an error.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fastclip.ops import schemas
from fastclip.ops.dispatch import Call, kept_layout, load_backend
from fastclip.ops.missing_derivatives import refuse_second_derivative
from fastclip.rectangle import BOTH, MAIN_DIAGONAL, Rectangle, Sides


def whole_clip_loss(rectangle: Rectangle, call: Call) -> Tensor | None:
    """Return the loss from one node, or None if the backend cannot do this for such a batch.

    Args:
        rectangle: a square of plain tensors with pairs on the main diagonal, nothing left out and
            both sides wanted.

    Returns:
        The loss, (), or None.
    """
    backend = load_backend(call.backend)
    if not hasattr(backend, "clip_loss_at_once"):
        return None
    N = rectangle.rows.shape[0]
    workspace = call.workspace
    if workspace is not None and call.kept_rows > 0:
        layout = kept_layout(call.backend, "contrastive_lse", rectangle.rows.dtype)
        workspace = max(0, workspace - call.kept_rows * layout.row_bytes(N))
    if call.kept_rows not in (0, N):
        return None
    cut = backend.cut_of_one_block(rectangle, workspace)
    if cut is None:
        return None
    return _WholeClipLoss.apply(*rectangle[:3], rectangle.normalize, call, cut)


class _WholeClipLoss(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        cols: Tensor,
        logit_scale: Tensor,
        normalize: bool,
        call: Call,
        cut: Any,
    ) -> Tensor:
        rectangle = _square(rows, cols, logit_scale, normalize)
        backend = load_backend(call.backend)
        loss, saved = backend.clip_loss_at_once(rectangle, cut, call.kept_rows > 0)
        ctx.save_for_backward(rows, cols, logit_scale, *saved)
        ctx.normalize, ctx.call = normalize, call
        ctx.set_materialize_grads(False)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad_loss is None:
            return (None,) * 6
        rows, cols, logit_scale, *saved = ctx.saved_tensors
        rectangle = _square(rows, cols, logit_scale, ctx.normalize)
        wants, differentiated = Sides(*ctx.needs_input_grad[:2]), torch.is_grad_enabled()
        if not _is_plain(grad_loss):
            gradients = _gradients_by_operators(rectangle, grad_loss, saved, ctx.call, wants)
        else:
            with torch.no_grad() if differentiated else nullcontext():
                backend = load_backend(ctx.call.backend)
                gradients = backend.clip_loss_at_once_backward(rectangle, grad_loss, saved, wants)
        if differentiated:
            constants = grad_loss, rows, cols, logit_scale
            gradients = [_OnceDifferentiable.apply(x, *constants) for x in gradients]
        needed = zip(gradients, ctx.needs_input_grad[:3], strict=True)
        return *(x if need else None for x, need in needed), None, None, None


class _OnceDifferentiable(Function):
    """A gradient that depends on inputs, so that differentiating it raises an error."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        refuse_second_derivative("fastclip.clip_loss")


def _is_plain(grad_loss: Tensor) -> bool:
    """Return whether this is a plain tensor; autograd's batches of gradients look like one."""
    functorch = torch._C._functorch
    return (
        type(grad_loss) is Tensor
        and not torch._C._are_functorch_transforms_active()
        and not functorch.is_legacy_batchedtensor(grad_loss)
    )


def _square(rows: Tensor, cols: Tensor, logit_scale: Tensor, normalize: bool) -> Rectangle:
    return Rectangle(rows, cols, logit_scale, MAIN_DIAGONAL, None, normalize, BOTH)


def _gradients_by_operators(
    rectangle: Rectangle,
    grad_loss: Tensor,  # (), of a batch
    saved: list[Tensor],  # statistics, kept and others
    call: Call,
    wants: Sides,
) -> tuple[Tensor, ...]:
    statistics, kept = saved[:2]
    N = len(rectangle.rows)
    positive, shift, total = statistics[: 5 * N].view(5, N).split([1, 2, 2])
    excess = torch.sigmoid(shift - positive + total.log()) * (grad_loss / total.numel())
    return schemas.contrastive_lse_backward(
        *schemas.flat(rectangle), *rectangle.sides, -excess.sum(0), (excess / total).reshape(-1),
        shift.view(-1), kept, call.backend, call.workspace, *wants,
    )  # fmt: skip
