"""CoCa over ranks: one step of all ranks is the step of one process over all pairs."""

from functools import partial

from torch.nn.parallel import DistributedDataParallel

from fastclip.losses.coca import CoCaLoss
from fastclip.train.step.cached import CachedStep
from tests.support.small_models import COCA, build, inputs

SIZES = (4, 3)  # pairs of each rank, whose captions have different numbers of tokens


def step_of(model, images, tokens, group, wrap):
    model = model.double().train()
    loss = partial(CoCaLoss(2.0, 1.0, backend="reference", process_group=group), output_dict=True)
    compute = CachedStep(wrap(model), loss, 2, activation_budget=0)
    result = compute(images.double(), tokens)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {name: term.item() for name, term in result.terms.items()}, gradients


def step_of_a_rank(group):
    images, tokens = inputs(COCA, sum(SIZES))
    start = sum(SIZES[: group.rank()])
    rows = slice(start, start + SIZES[group.rank()])
    wrap = partial(DistributedDataParallel, process_group=group)
    return step_of(build(COCA), images[rows], tokens[rows], group, wrap)


def test_a_step_of_two_ranks_is_that_of_one_process(ranks):
    found = ranks.run(2, step_of_a_rank)
    images, tokens = inputs(COCA, sum(SIZES))
    terms, gradients = step_of(build(COCA), images, tokens, None, lambda model: model)
    for of_rank, of_parameters in found:
        assert of_rank == found[0][0]
        for name, value in terms.items():
            assert abs(of_rank[name] - value) < 1e-12 * abs(value), name
        for name, expected in gradients.items():
            scale = expected.abs().max().clamp(min=1e-30)
            assert (of_parameters[name] - expected).abs().max() / scale < 1e-10, name
