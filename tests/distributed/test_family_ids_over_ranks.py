"""Ids of the family's losses over ranks: those of one batch in one process."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import fastclip
from tests.distributed.pairs import SCHEDULES, SIZES
from tests.distributed.test_family import NEGATIVES, check
from tests.support.dense import unit, views

RANKS, D, SCALE = 3, 16, 14.3
DIRECTIONS = "query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"


class Ids(NamedTuple):
    rows: Tensor
    cols: Tensor
    negatives: Tensor
    indices: Tensor


def ids_of_all(kind):
    """Of all ranks' rows, columns and negatives; some pairs have two ids if "unequal"."""
    generator = torch.Generator().manual_seed(5)
    size, num_negatives = sum(SIZES[:RANKS]), sum(NEGATIVES[:RANKS])
    rows = torch.randint(0, 12, (size,), generator=generator)
    cols = rows.clone()
    if kind == "unequal":
        cols[::5] = torch.randint(0, 30, (len(cols[::5]),), generator=generator)
    if kind == "one":
        rows = cols = torch.zeros_like(rows)
    negatives = torch.randint(0, 12, (num_negatives,), generator=generator)
    return Ids(rows, cols, negatives, torch.arange(size) * 7 % 200)


def by_info_nce(features, ids, scale, **options):
    return fastclip.info_nce_loss(
        *features, logit_scale=scale, query_ids=ids.rows, key_ids=ids.cols, **options
    )


def by_given_negatives(features, ids, scale, **options):
    return fastclip.info_nce_loss(
        *features, logit_scale=scale, ids=ids.rows, negative_ids=ids.negatives, **options
    )


def by_nt_xent(features, ids, scale, **options):
    return fastclip.nt_xent_loss(*features, logit_scale=scale, ids=ids.rows, **options)


def by_dcl(features, ids, scale, **options):
    return fastclip.dcl_loss(*features, logit_scale=scale, ids=ids.rows, sigma=0.5, **options)


def by_info_loob(features, ids, scale, **options):
    return fastclip.info_loob_loss(
        *features, logit_scale=scale, image_ids=ids.rows, text_ids=ids.cols, **options
    )


def by_ranking(features, ids, scale, **options):
    queries, documents, hard = features
    return fastclip.multiple_negatives_loss(
        queries, documents, [hard], logit_scale=scale, directions=DIRECTIONS,
        query_ids=ids.rows, document_ids=ids.cols, hard_negative_ids=[ids.indices % 12],
        **options,
    )  # fmt: skip


def by_queue(features, ids, scale, **options):
    """The last of three calls: the queue has keys of all ranks, and their ids."""
    loss = fastclip.QueueLoss(D, 90, in_batch=True, with_ids=True, **options).double()
    for shift in (1, 2):
        loss(*(x.detach().roll(shift, 1) for x in features), ids=ids.rows + shift)
    return loss(*features, logit_scale=scale, ids=ids.rows)


def by_sog_clr(features, ids, scale, **options):
    loss = fastclip.SogCLRLoss(200, **options).double()
    loss(*(x.detach().roll(1, 1) for x in features), ids.indices)
    return loss(*features, ids.indices, scale, image_ids=ids.rows, text_ids=ids.cols)


def by_distillation(features, ids, scale, **options):
    features = [unit(x) for x in features]
    teacher = [x.detach().flip(1) for x in features]
    named = dict(image_ids=ids.rows, text_ids=ids.cols)
    return sum(fastclip.distill_clip_loss(*features, scale, *teacher, 20.0, **named, **options))


CASES = [
    (by_info_nce, 2, "unequal"), (by_given_negatives, 3, "classes"), (by_nt_xent, 2, "classes"),
    (by_dcl, 2, "classes"), (by_dcl, 2, "one"), (by_info_loob, 2, "unequal"),
    (by_ranking, 3, "unequal"), (by_queue, 2, "classes"), (by_sog_clr, 2, "unequal"),
    (by_sog_clr, 2, "one"), (by_distillation, 2, "unequal"),
]  # fmt: skip


def compute(loss, num, kind, group=None, schedule="gather"):
    features, ids = views(num, sum(SIZES[:RANKS]), D), ids_of_all(kind)
    lengths = [SIZES[:RANKS]] * num
    if loss is by_given_negatives:
        features[2] = views(1, sum(NEGATIVES[:RANKS]), D, "trained")[0]
        lengths[2] = NEGATIVES[:RANKS]
    if group is not None:
        rank = group.rank()
        features = [x.split(sizes)[rank] for x, sizes in zip(features, lengths, strict=True)]
        ids = Ids(*(x.split(NEGATIVES[:RANKS] if x is ids.negatives else SIZES[:RANKS])[rank]
                    for x in ids))  # fmt: skip
    leaves = [x.clone().requires_grad_() for x in features]
    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)
    options = dict(process_group=group, schedule=schedule, backend="reference")
    value = loss(leaves, ids, scale, **options)
    return value.detach(), torch.autograd.grad(value, [*leaves, scale])


def of_a_rank(group, schedule, *case):
    return compute(*case, group, schedule)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__} {case[2]}")
def test_mean_of_gradients_is_that_of_the_whole_batch(ranks, case):
    expected = compute(*case)
    for schedule in SCHEDULES:
        check(expected, ranks.run(RANKS, of_a_rank, schedule, *case))


def disagreements(group):
    x, ids = views(1, 4, D)[0], torch.arange(4)
    of_rank_1 = ids if group.rank() else None
    queue = fastclip.QueueLoss(D, 9, with_ids=bool(group.rank()), process_group=group).double()
    calls = [
        lambda: fastclip.nt_xent_loss(x, x, ids=of_rank_1, process_group=group),
        lambda: queue(x, x, ids=of_rank_1),
        lambda: fastclip.multiple_negatives_loss(
            x, x, [x], ids=ids, hard_negative_ids=of_rank_1 if of_rank_1 is None else [ids],
            process_group=group, backend="reference",
        ),
    ]  # fmt: skip
    said = []
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        said.append(str(error.value))
    return said


def test_ranks_of_which_one_has_ids_are_told_so(ranks):
    for said in ranks.run(2, disagreements):
        assert said[0].startswith("ids must be the same on ranks 0 to 1, got None, tensors")
        assert said[1].startswith("ids must be the same on ranks 0 to 1, got None, tensors")
        assert said[2].startswith("whether there are hard_negative_ids must be the same on ranks")
