"""The sigmoid losses of own rows and the columns of all ranks, which visit in turn.

    forward     sum over visits of sum_i row_loss_i; only features travel
    backward    G of the visit's rectangle; d row, d logit_scale and d logit_bias add up here, d col
                travels with its columns, in float32 (float64 for float64 features)

Cost: 8 B_r N D FLOPs per rank; no logits are kept. No tensor here has N rows.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from fastclip.backends.normalization import compute_dtype
from fastclip.distributed.agreement import Ranks
from fastclip.distributed.ring import Tensors, Visits, add_each, walk_ring
from fastclip.ops.dispatch import Call, kept_like
from fastclip.ops.missing_derivatives import refuse_second_derivative
from fastclip.ops.pair_ids import SideIds
from fastclip.ops.siglip_sum import siglip_sum, siglip_sum_backward
from fastclip.rectangle import Rectangle, Sides


def sigmoid_loss(
    own: Rectangle,
    ids: SideIds | None,
    are_positives: bool,  # never true
    logit_bias: Tensor,
    ranks: Ranks,
    backend: str,
    workspace: int | None,
) -> Tensor:
    """Return the sum of the losses of own rows and all columns, ()."""
    visits = Visits(ranks, own.normalize, Call(backend, workspace), ids)
    return _Total.apply(*own[:3], logit_bias, visits)


class _Total(Function):
    @staticmethod
    def forward(rows, cols, logit_scale, logit_bias, visits):
        total = torch.zeros_like(logit_scale, dtype=torch.float64)

        def visit(owner: int, constants: Tensors) -> Tensors:
            cols, *others = constants
            rectangle = visits.rectangle(owner, rows, cols, logit_scale, others)
            row_loss, _ = siglip_sum(rectangle, logit_bias, visits.call)
            total.add_(row_loss.sum(dtype=torch.float64))
            return ()

        walk_ring((cols, *visits.constants), visit, add_each, visits.ranks)
        return total.to(logit_scale.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.visits = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad):
        needed = ctx.needs_input_grad[:4]
        gradients = _Gradients.apply(grad, *ctx.saved_tensors, ctx.visits, Sides(*needed[:2]))
        return *(x if need else None for x, need in zip(gradients, needed, strict=True)), None


class _Gradients(Function):
    """The backward as a separate Function, so that a second derivative raises an error."""

    @staticmethod
    def forward(
        grad: Tensor,  # ()
        rows: Tensor,  # (B, D)
        cols: Tensor,  # (B, D)
        logit_scale: Tensor,  # ()
        logit_bias: Tensor,  # ()
        visits: Visits,
        wants: Sides,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dtype = compute_dtype(rows.dtype)
        grad_row_loss = grad.repeat(len(rows))
        grad_rows = torch.zeros_like(rows, dtype=dtype) if wants.rows else None
        of_scalars = grad.new_zeros(2, dtype=torch.float64)

        def visit(owner: int, constants: Tensors) -> Tensors:
            cols, *others = constants
            rectangle = visits.rectangle(owner, rows, cols, logit_scale, others)
            kept = kept_like(visits.call.backend, "siglip_sum", rows, 0, len(cols))
            grad_row, grad_col, *scalars_here = siglip_sum_backward(
                rectangle, logit_bias, visits.call, grad_row_loss, kept, wants
            )
            of_scalars.add_(torch.stack(scalars_here))
            if wants.rows:
                grad_rows.add_(grad_row)
            return (grad_col.to(dtype),) if wants.cols else ()

        grad_cols = walk_ring((cols, *visits.constants), visit, add_each, visits.ranks)
        return (
            rows.new_empty(0) if grad_rows is None else grad_rows.to(rows.dtype),
            grad_cols[0].to(cols.dtype) if wants.cols else cols.new_empty(0),
            *of_scalars.to(logit_scale.dtype),
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        refuse_second_derivative("the backward of the sigmoid loss over a ring")
