"""`contrastive_lse` of own rows and the columns of all ranks, which visit one after the other.

Returns what `gather.softmax_statistics` returns. Forward: rows merge their statistics from visit to
visit; the columns' travel with them. Backward: with its columns each rank sends their shifts and
the gradients of their totals, and gets back the gradient of their features.

    visit of rank o    rectangle (B_r, B_o); pairs on the diagonal if o = r, none otherwise
    d row              sum over visits, here
    d col              sum over ranks, travels; both in float32 (float64 for float64 features)

Cost: 8 B_r N D FLOPs per rank; no logits are kept. Nothing here has N rows.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from fastclip.backends.normalization import compute_dtype
from fastclip.distributed.agreement import Ranks
from fastclip.distributed.ring import Tensors, Visits, add_each, walk_ring
from fastclip.ops.contrastive_lse import contrastive_lse, contrastive_lse_backward
from fastclip.ops.dispatch import Call, kept_like
from fastclip.ops.merge import merge
from fastclip.ops.missing_derivatives import refuse_second_derivative
from fastclip.ops.pair_ids import SideIds
from fastclip.rectangle import Rectangle, Sides


def softmax_statistics(
    own: Rectangle,
    ids: SideIds | None,
    ranks: Ranks,
    backend: str,
    workspace: int | None,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns positive (B,), shift (2, B) and total (2, B): of own rows, then of own columns."""
    visits = Visits(ranks, own.normalize, Call(backend, workspace), ids)
    return _Statistics.apply(*own[:3], visits, needs_maximum)


class _Statistics(Function):
    @staticmethod
    def forward(rows, cols, logit_scale, visits, needs_maximum):
        ranks = visits.ranks
        positive, of_rows = None, None

        def visit(owner: int, constants: Tensors) -> Tensors:
            nonlocal positive, of_rows
            cols, *others = constants
            rectangle = visits.rectangle(owner, rows, cols, logit_scale, others)
            positive_here, shift, total, _ = contrastive_lse(rectangle, visits.call, needs_maximum)
            if owner == ranks.rank:
                positive = positive_here
            row_shift, col_shift = shift.split(rectangle.lengths)
            row_total, col_total = total.split(rectangle.lengths)
            here = row_shift, row_total
            of_rows = here if of_rows is None else merge([of_rows, here])
            return col_shift, col_total

        of_cols = walk_ring((cols, *visits.constants), visit, lambda *parts: merge(parts), ranks)
        shift, total = (torch.stack(x) for x in zip(of_rows, of_cols, strict=True))
        return positive, shift, total

    @staticmethod
    def setup_context(ctx, inputs, output):
        rows, cols, logit_scale, ctx.visits, _ = inputs
        _, shift, _ = output
        ctx.save_for_backward(rows, cols, logit_scale, shift)
        ctx.mark_non_differentiable(shift)

    @staticmethod
    def backward(ctx, grad_positive, _grad_shift, grad_total):
        needed = ctx.needs_input_grad[:3]
        gradients = _Gradients.apply(
            grad_positive, grad_total, *ctx.saved_tensors, ctx.visits, Sides(*needed[:2])
        )
        return *(x if need else None for x, need in zip(gradients, needed, strict=True)), None, None


class _Gradients(Function):
    """A function of its own, so that a second derivative raises."""

    @staticmethod
    def forward(
        grad_positive: Tensor,  # (B,)
        grad_total: Tensor,  # (2, B)
        rows: Tensor,  # (B, D)
        cols: Tensor,  # (B, D)
        logit_scale: Tensor,  # ()
        shift: Tensor,  # (2, B)
        visits: Visits,
        wants: Sides,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = compute_dtype(rows.dtype)
        grad_rows = torch.zeros_like(rows, dtype=dtype) if wants.rows else None
        grad_logit_scale = torch.zeros_like(logit_scale, dtype=torch.float64)

        def visit(owner: int, constants: Tensors) -> Tensors:
            cols, col_shift, grad_col_total, *others = constants
            grad_row, grad_col, grad_scale = contrastive_lse_backward(
                visits.rectangle(owner, rows, cols, logit_scale, others),
                visits.call,
                grad_positive.contiguous(),
                torch.cat((grad_total[0], grad_col_total)),
                torch.cat((shift[0], col_shift)),
                kept_like(visits.call.backend, "contrastive_lse", rows, 0, len(cols)),
                wants,
            )
            grad_logit_scale.add_(grad_scale)
            if wants.rows:
                grad_rows.add_(grad_row)
            return (grad_col.to(dtype),) if wants.cols else ()

        travelling = cols, shift[1], grad_total[1], *visits.constants
        grad_cols = walk_ring(travelling, visit, add_each, visits.ranks)
        return (
            rows.new_empty(0) if grad_rows is None else grad_rows.to(rows.dtype),
            grad_cols[0].to(cols.dtype) if wants.cols else cols.new_empty(0),
            grad_logit_scale.to(logit_scale.dtype),
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        refuse_second_derivative("the backward of contrastive_lse over a ring")
