"""Statistics of rectangles that ranks computed, merged: those of one process."""

import pytest
import torch
import torch.distributed as dist

from fastclip import reference
from fastclip.ops import dispatch
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.merge import merge
from fastclip.rectangle import Diagonal, Interval, Rectangle
from tests.support import plans

SEEDS = range(8)


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


def rows_over_ranks(group, seed: int, backend: str) -> list[list[float]]:
    """The log-sum-exp of the rows of each rectangle of a plan, of all ranks' columns."""
    num_ranks, found = dist.get_world_size(group), []
    for rectangle in rectangles_of(seed, backend):
        share = share_of(rectangle, dist.get_rank(group), num_ranks)
        call = dispatch.plan("contrastive_lse", backend, share, None)
        own = contrastive_lse(share, call)[1:3]
        everyone = [[torch.empty_like(x) for _ in range(num_ranks)] for x in own]
        for parts, mine in zip(everyone, own, strict=True):
            dist.all_gather(parts, mine, group=group)
        shift, total = merge(list(zip(*everyone, strict=True)))
        found.append((shift + total.log()).tolist())
    return found


def rectangles_of(seed: int, backend: str) -> list[Rectangle]:
    takes_intervals = dispatch.objection(backend, "cpu", torch.float64, True) is None
    random = plans.random_plan(seed, with_intervals=takes_intervals)
    plan = random.make(*random.inputs)
    enough = [x for x in plan.rectangles if len(x.cols) >= 3]
    return [x._replace(sides=plans.ROWS) for x in enough]


@pytest.mark.parametrize("backend", ["chunked", "reference"])
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_merged_statistics_of_ranks_are_those_of_one_process(ranks, num_ranks, backend):
    compared = 0
    for seed in SEEDS:
        truths = [reference.statistics(x).rows for x in rectangles_of(seed, backend)]
        for found in ranks.run(num_ranks, rows_over_ranks, seed, backend):
            for lse, truth in zip(found, truths, strict=True):
                torch.testing.assert_close(truth.new_tensor(lse), truth, rtol=1e-12, atol=1e-12)
                compared += 1
    assert compared > len(SEEDS) * num_ranks
