"""Distillation over ranks: values and gradients are those of one batch in one process."""

import pytest
import torch

import fastclip
from tests.distributed.pairs import SCHEDULES, SIZES
from tests.distributed.test_family import check
from tests.support.dense import unit, views

DIMS = 16, 24, 5  # of the student and of each teacher


def of_all_samples(num_ranks):
    return [unit(x) for dim in DIMS for x in views(2, sum(SIZES[:num_ranks]), dim)]


def compute(features, frozen, **options):
    images, texts, *of_teachers = features
    scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
    wanted = [x.requires_grad_() for i, x in enumerate((images, texts)) if i != frozen]
    teachers = of_teachers[::2], of_teachers[1::2], [50.0, torch.tensor(9.0)]
    loss = fastclip.DistillClipLoss(**options)
    contrastive, distill = loss(images, texts, scale, *teachers)
    total = contrastive + 2 * distill
    return total.detach(), torch.autograd.grad(total, [*wanted, scale])


def of_a_rank(group, frozen, schedule):
    sizes = SIZES[: group.size()]
    own = [x.split(sizes)[group.rank()].clone() for x in of_all_samples(group.size())]
    of_group = dict(process_group=group, rank=group.rank(), world_size=group.size())
    return compute(own, frozen, schedule=schedule, **of_group)


@pytest.mark.parametrize("num_ranks, frozen", [(2, None), (3, None), (2, 0), (2, 1)])
def test_mean_of_gradients_is_that_of_the_whole_batch(ranks, num_ranks, frozen):
    expected = compute(of_all_samples(num_ranks), frozen)
    for schedule in SCHEDULES:
        check(expected, ranks.run(num_ranks, of_a_rank, frozen, schedule))


def disagreements(group):
    images, texts = (unit(x) for x in views(2, 4, 8))
    rank, said = group.rank(), []
    calls = [
        ([images] * (1 + rank), [texts] * (1 + rank), [9.0] * (1 + rank)),
        (images[:, : 8 - rank], texts[:, : 8 - rank], 9.0),
        (images.to(dtype := (torch.float64, torch.float32)[rank]), texts.to(dtype), 9.0),
        (images, texts, 9.0 + rank),
    ]
    for teachers in calls:
        try:
            fastclip.distill_clip_loss(images, texts, 9.0, *teachers, process_group=group)
        except ValueError as error:
            said.append(str(error))
    return said


def test_ranks_with_other_teachers_are_told_so(ranks):
    for said in ranks.run(2, disagreements):
        expected = [
            "the number of teachers must be the same on ranks 0 to 1",
            "D of dist_image_features[0] must be the same on ranks 0 to 1",
            "the dtype of dist_image_features[0] must be the same on ranks 0 to 1",
            "dist_logit_scale[0] must be the same on ranks 0 to 1",
        ]
        assert len(said) == len(expected)
        for message, start in zip(said, expected, strict=True):
            assert message.startswith(start)
