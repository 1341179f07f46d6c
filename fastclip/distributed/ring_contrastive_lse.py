"""`contrastive_lse` of own rows and the columns of all ranks, which visit one after the other.

Returns what `gather.contrastive_lse` returns. Forward: rows merge their statistics from visit to
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
from fastclip.distributed.merge import merge
from fastclip.distributed.ring import Tensors, add_each, positive_offset, walk_ring
from fastclip.ops import contrastive_lse as rectangle
from fastclip.ops.dispatch import kept_like
from fastclip.ops.missing_derivatives import refuse_second_derivative


def contrastive_lse(
    row_features: Tensor,  # (B, D)
    col_features: Tensor,  # (B, D)
    logit_scale: Tensor,  # ()
    ranks: Ranks,
    normalize: bool,
    backend: str,
    workspace: int | None,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns positive (B,), shift (2, B) and total (2, B): of own rows, then of own columns."""
    settings = ranks, normalize, backend, workspace
    return _Statistics.apply(row_features, col_features, logit_scale, settings, needs_maximum)


class _Statistics(Function):
    @staticmethod
    def forward(rows, cols, logit_scale, settings, needs_maximum):
        ranks, normalize, backend, workspace = settings
        positive, of_rows = None, None

        def visit(owner: int, constants: Tensors) -> Tensors:
            nonlocal positive, of_rows
            (cols,) = constants
            positive_here, shift, total, _ = rectangle.contrastive_lse(
                rows, cols, logit_scale, positive_offset(owner, ranks), normalize, backend,
                workspace, 0, needs_maximum,
            )  # fmt: skip
            if owner == ranks.rank:
                positive = positive_here
            row_shift, col_shift = shift.split([len(rows), len(cols)])
            row_total, col_total = total.split([len(rows), len(cols)])
            here = row_shift, row_total
            of_rows = here if of_rows is None else _merge_two(of_rows, here)
            return col_shift, col_total

        of_cols = walk_ring((cols,), visit, _merge_two, ranks)
        shift, total = (torch.stack(x) for x in zip(of_rows, of_cols, strict=True))
        return positive, shift, total

    @staticmethod
    def setup_context(ctx, inputs, output):
        rows, cols, logit_scale, ctx.settings, _ = inputs
        _, shift, _ = output
        ctx.save_for_backward(rows, cols, logit_scale, shift)
        ctx.mark_non_differentiable(shift)

    @staticmethod
    def backward(ctx, grad_positive, _grad_shift, grad_total):
        needed = ctx.needs_input_grad[:3]
        gradients = _Gradients.apply(
            grad_positive, grad_total, *ctx.saved_tensors, ctx.settings, *needed[:2]
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
        settings: tuple,
        needs_row_grad: bool,
        needs_col_grad: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ranks, normalize, backend, workspace = settings
        dtype = compute_dtype(rows.dtype)
        grad_rows = torch.zeros_like(rows, dtype=dtype) if needs_row_grad else None
        grad_logit_scale = torch.zeros_like(logit_scale, dtype=torch.float64)

        def visit(owner: int, constants: Tensors) -> Tensors:
            cols, col_shift, grad_col_total = constants
            kept = kept_like(backend, "contrastive_lse", rows, 0, len(cols))
            grad_row, grad_col, grad_scale = rectangle.contrastive_lse_backward(
                grad_positive.contiguous(), torch.cat((grad_total[0], grad_col_total)), rows, cols,
                logit_scale, torch.cat((shift[0], col_shift)), kept, positive_offset(owner, ranks),
                normalize, backend, workspace, needs_row_grad, needs_col_grad,
            )  # fmt: skip
            grad_logit_scale.add_(grad_scale)
            if needs_row_grad:
                grad_rows.add_(grad_row)
            return (grad_col.to(dtype),) if needs_col_grad else ()

        grad_cols = walk_ring((cols, shift[1], grad_total[1]), visit, add_each, ranks)
        return (
            rows.new_empty(0) if grad_rows is None else grad_rows.to(rows.dtype),
            grad_cols[0].to(cols.dtype) if needs_col_grad else cols.new_empty(0),
            grad_logit_scale.to(logit_scale.dtype),
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        refuse_second_derivative("the backward of contrastive_lse over a ring")


def _merge_two(a: Tensors, b: Tensors) -> Tensors:
    return merge(*(torch.stack(x) for x in zip(a, b, strict=True)))
