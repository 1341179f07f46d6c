"""Statistics that ranks computed of their parts of a rectangle, merged: those of one process."""

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from fastclip import reference
from fastclip.ops import dispatch
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.merge import merge
from fastclip.rectangle import ROWS, Diagonal, Interval, Rectangle
from tests.support import plans

SEEDS = range(8)


def rectangles_of(seed: int, backend: str) -> list[Rectangle]:
    """Of a random plan, those with a column for each of three ranks."""
    takes_intervals = dispatch.objection(backend, "cpu", torch.float64, True) is None
    random = plans.random_plan(seed, with_intervals=takes_intervals)
    plan = random.make(*random.inputs)
    return [x._replace(sides=ROWS) for x in plan.rectangles if len(x.cols) >= 3]


def with_leaves(rectangle: Rectangle) -> Rectangle:
    leaves = [x.clone().requires_grad_() for x in rectangle[:3]]
    return Rectangle(*leaves, *rectangle[3:])


def share_of(rectangle: Rectangle, rank: int, num_ranks: int) -> Rectangle:
    """All rows, and a rank's block of the columns."""
    blocks = rectangle.cols.tensor_split(num_ranks)
    start = sum(len(x) for x in blocks[:rank])
    positives, excluded = rectangle.positives, rectangle.excluded
    if positives is not None:
        positives = Diagonal(positives.offset - start)
    if excluded is not None:
        excluded = Interval(excluded.begin - start, excluded.end - start)
    return rectangle._replace(cols=blocks[rank], positives=positives, excluded=excluded)


def weighted(lse: Tensor) -> Tensor:
    """A scalar of those rows that have negatives, with weights of both signs."""
    weights = torch.linspace(-1.0, 1.5, len(lse), dtype=torch.float64)
    return (weights * lse)[lse.isfinite()].sum()


def rows_over_ranks(group, seed: int, backend: str) -> list[list[Tensor]]:
    """For each rectangle, the log-sum-exp of its rows over the columns of all ranks, and this
    rank's part of the gradients of rows, columns and scale."""
    rank, num_ranks, found = dist.get_rank(group), dist.get_world_size(group), []
    for rectangle in rectangles_of(seed, backend):
        share = with_leaves(share_of(rectangle, rank, num_ranks))
        call = dispatch.plan("contrastive_lse", backend, share, None)
        own = contrastive_lse(share, call)[1:3]
        everyone = [[torch.empty_like(x) for _ in range(num_ranks)] for x in own]
        for parts, mine in zip(everyone, own, strict=True):
            dist.all_gather(parts, mine.detach(), group=group)
            parts[rank] = mine
        shift, total = merge(list(zip(*everyone, strict=True)))
        lse = shift + total.log()
        found.append([lse.detach(), *torch.autograd.grad(weighted(lse), share[:3])])
    return found


@pytest.mark.parametrize("backend", ["chunked", "cpu", "reference"])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_merged_statistics_of_ranks_are_those_of_one_process(ranks, num_ranks, backend):
    compared = 0
    for seed in SEEDS:
        of_ranks = ranks.run(num_ranks, rows_over_ranks, seed, backend)
        rectangles = [with_leaves(x) for x in rectangles_of(seed, backend)]
        for rectangle, *parts in zip(rectangles, *of_ranks, strict=True):
            truth = reference.statistics(rectangle).rows
            lse, rows, cols, scales = zip(*parts, strict=True)
            found = sum(rows), torch.cat(cols), sum(scales)
            gradients = torch.autograd.grad(weighted(truth), rectangle[:3])
            for each in lse:
                torch.testing.assert_close(each, truth, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(found, gradients, rtol=1e-10, atol=1e-12)
            compared += 1
    assert compared > len(SEEDS)
