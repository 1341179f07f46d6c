"""Captions over ranks: one step of all ranks is the step of one process over all pairs."""

from functools import partial

import pytest
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fastclip.losses.coca import CoCaLoss
from fastclip.losses.locca import LocCaLoss
from fastclip.train.step.cached import CachedStep
from tests.support.small_locca import locca_and_batch
from tests.support.small_models import COCA, build, inputs

SIZES = (4, 3)  # pairs of each rank, whose captions have different numbers of tokens


def batch_of(kind):
    if kind == "LocCa":
        return locca_and_batch(sum(SIZES))
    images, tokens = inputs(COCA, sum(SIZES))
    return build(COCA).double(), images.double(), tokens


def step_of(model, images, texts, kind, group, wrap):
    settings = dict(backend="reference", process_group=group)
    if kind == "LocCa":
        loss = LocCaLoss(2.0, **settings)
    else:
        loss = partial(CoCaLoss(2.0, 1.0, **settings), output_dict=True)
    compute = CachedStep(wrap(model.train()), loss, 2, activation_budget=0)
    result = compute(images, texts)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {name: term.item() for name, term in result.terms.items()}, gradients


def step_of_a_rank(group, kind):
    model, images, texts = batch_of(kind)
    start = sum(SIZES[: group.rank()])
    rows = slice(start, start + SIZES[group.rank()])
    if isinstance(texts, Tensor):
        texts = texts[rows]
    else:
        texts = {name: part[rows] for name, part in texts.items()}
    wrap = partial(DistributedDataParallel, process_group=group)
    return step_of(model, images[rows], texts, kind, group, wrap)


@pytest.mark.parametrize("kind", ["CoCa", "LocCa"])
def test_a_step_of_two_ranks_is_that_of_one_process(ranks, kind):
    found = ranks.run(2, step_of_a_rank, kind)
    terms, gradients = step_of(*batch_of(kind), kind, None, lambda model: model)
    for of_rank, of_parameters in found:
        assert of_rank == found[0][0]
        for name, value in terms.items():
            assert abs(of_rank[name] - value) < 1e-12 * abs(value), name
        for name, expected in gradients.items():
            scale = expected.abs().max().clamp(min=1e-30)
            assert (of_parameters[name] - expected).abs().max() / scale < 1e-10, name
