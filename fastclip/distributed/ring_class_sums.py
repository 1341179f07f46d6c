"""Sums of all features with the same label, over the rows of all ranks, visiting in turn.

    sum_i = sum of x_j,    count_i = number of j,    over all j of all ranks with label_j = label_i

Having the same label is symmetric, so the map to the sums is its own adjoint: the backward is the
same walk with the gradients of the sums. No tensor here has N rows.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from fastclip.distributed.agreement import Ranks
from fastclip.distributed.ring import Tensors, add_each, walk_ring
from fastclip.ops.classes import Classes


def class_sums(
    labels: Tensor,  # (B_r,)
    features: tuple[Tensor, ...],  # (B_r, D) each
    ranks: Ranks,
) -> tuple[Tensor, ...]:
    """Return the counts (B_r,) int64, and the sums (B_r, D) of each of `features`."""
    return _ClassSums.apply(labels, ranks, *features)


class _ClassSums(Function):
    @staticmethod
    def forward(labels: Tensor, ranks: Ranks, *features: Tensor) -> tuple[Tensor, ...]:
        own = Classes(labels)
        counts = torch.zeros_like(labels)
        sums = [torch.zeros_like(x) for x in features]

        def visit(owner: int, constants: Tensors) -> Tensors:
            labels, *visiting = constants
            is_own = own.count(labels) > 0
            number = own.number(labels).clamp(max=len(counts) - 1)  # correct for own labels
            counts.index_add_(0, number, is_own.to(counts.dtype))
            for x, of_own in zip(visiting, sums, strict=True):
                of_own.index_add_(0, number, torch.where(is_own[:, None], x, 0.0))
            return ()

        walk_ring((labels, *features), visit, add_each, ranks)
        number = own.number(labels)
        return counts[number], *(x[number] for x in sums)

    @staticmethod
    def setup_context(ctx, inputs, output):
        labels, ctx.ranks, *_ = inputs
        ctx.save_for_backward(labels)
        ctx.mark_non_differentiable(output[0])

    @staticmethod
    def backward(ctx, _grad_counts, *grads):
        (labels,) = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        sums = iter(_ClassSums.apply(labels, ctx.ranks, *(
            x for x, is_wanted in zip(grads, wanted, strict=True) if is_wanted
        ))[1:])  # fmt: skip
        return None, None, *(next(sums) if is_wanted else None for is_wanted in wanted)
