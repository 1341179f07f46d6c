"""`contrastive_lse` of own rows and the columns of all ranks, which visit in turn.

Forward: the rows' statistics are merged from visit to visit; the columns' statistics, if they are
wanted, travel with the columns. Backward: with its columns each rank sends their shifts and the
gradients of their totals, if there are any, and gets back the gradient of their features.

    visit of rank o    rectangle (M_r, N_o); pairs on the diagonal if o = r, none otherwise
    d row              sum over visits, here
    d col              sum over ranks, travels; both in float32 (float64 for float64 features)

Cost: 8 M_r N D FLOPs per rank; no logits are kept. No tensor here has N rows.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from fastclip.backends.normalization import compute_dtype
from fastclip.distributed.agreement import Ranks
from fastclip.distributed.no_pairs import is_empty, statistics_of
from fastclip.distributed.ring import Tensors, Visits, add_each, walk_ring
from fastclip.ops.contrastive_lse import contrastive_lse_backward
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
    """Return positive (B,), shift (2, B) and total (2, B): for own rows, then for own columns."""
    positive, *statistics = statistics_of_visits(own, ids, ranks, backend, workspace, needs_maximum)
    return positive, *(x.view(2, len(positive)) for x in statistics)


def statistics_of_visits(
    own: Rectangle,
    ids: SideIds | None,
    ranks: Ranks,
    backend: str,
    workspace: int | None,
    needs_maximum: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return positive, shift and total of `contrastive_lse`, over the columns of all ranks.

    Args:
        own: rows (M, D) and columns (N_r, D) of this rank, with the sides that are wanted.
        ids: the ids of these rows and columns; the columns are in the order of their ids.
        ranks: the ranks; their sizes count columns.
    """
    visits = Visits(ranks, own.normalize, Call(backend, workspace), ids, own.positives, own.sides)
    return _Statistics.apply(*own[:3], visits, needs_maximum)


class _Statistics(Function):
    @staticmethod
    def forward(rows, cols, logit_scale, visits, needs_maximum):
        ranks, wants_cols = visits.ranks, visits.sides.cols
        positive, of_rows = None, None

        def visit(owner: int, constants: Tensors) -> Tensors:
            nonlocal positive, of_rows
            cols, *others = constants
            rectangle = visits.rectangle(owner, rows, cols, logit_scale, others)
            positive_here, shift, total = statistics_of(rectangle, visits.call, needs_maximum)
            if owner == ranks.rank:
                positive = positive_here
            row_shift, col_shift = shift.split(rectangle.lengths)
            row_total, col_total = total.split(rectangle.lengths)
            here = row_shift, row_total
            of_rows = here if of_rows is None else merge([of_rows, here])
            return (col_shift, col_total) if wants_cols else ()

        def merged(*parts: Tensors) -> Tensors:
            return merge(parts) if wants_cols else ()

        of_cols = walk_ring((cols, *visits.constants), visit, merged, ranks)
        of_sides = (of_rows, of_cols) if wants_cols else (of_rows,)
        shift, total = (torch.cat(x) for x in zip(*of_sides, strict=True))
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
    """The backward as a separate Function, so that a second derivative raises an error."""

    @staticmethod
    def forward(
        grad_positive: Tensor,  # (M,)
        grad_total: Tensor,  # (sum of lengths,)
        rows: Tensor,  # (M, D)
        cols: Tensor,  # (N_r, D)
        logit_scale: Tensor,  # ()
        shift: Tensor,  # (sum of lengths,)
        visits: Visits,
        wants: Sides,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = compute_dtype(rows.dtype)
        grad_rows = torch.zeros_like(rows, dtype=dtype) if wants.rows else None
        grad_logit_scale = torch.zeros_like(logit_scale, dtype=torch.float64)
        lengths = Rectangle(rows, cols, logit_scale, None, sides=visits.sides).lengths
        of_rows, of_cols = zip(shift.split(lengths), grad_total.split(lengths), strict=True)

        def visit(owner: int, constants: Tensors) -> Tensors:
            cols, *others = constants
            here = of_rows
            if visits.sides.cols:
                here = [torch.cat(x) for x in zip(of_rows, others[:2], strict=True)]
                others = others[2:]
            rectangle = visits.rectangle(owner, rows, cols, logit_scale, others)
            if is_empty(rectangle):
                return (torch.zeros_like(cols, dtype=dtype),) if wants.cols else ()
            shift, grad_total = here
            grad_row, grad_col, grad_scale = contrastive_lse_backward(
                rectangle,
                visits.call,
                grad_positive.contiguous(),
                grad_total.contiguous(),
                shift,
                kept_like(visits.call.backend, "contrastive_lse", rows, 0, len(cols)),
                wants,
            )
            grad_logit_scale.add_(grad_scale)
            if wants.rows:
                grad_rows.add_(grad_row)
            return (grad_col.to(dtype),) if wants.cols else ()

        travelling = cols, *(of_cols if visits.sides.cols else ()), *visits.constants
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
