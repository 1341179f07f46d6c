"""After DDP's mean, every gradient is that of the whole batch in one process.

shared/design/numerics-and-gradients.md, section 1, lists what others give instead; each of those
ratios is rejected by the comparison used here.
"""

from dataclasses import replace

import pytest
import torch

from tests.distributed.towers import Training, step_alone, step_of_rank

SIZES = ((5,), (5, 3), (5, 3, 1), (5, 3, 1, 7))
BASE = [
    Training(loss, schedule, sizes)
    for loss in ("clip", "siglip")
    for schedule in ("gather", "ring")
    for sizes in SIZES
]
SOME = [training for training in BASE if len(training.sizes) in (2, 4)]


def different(trainings, **changes):
    return [replace(training, **changes) for training in trainings]


TRAININGS = [
    *BASE,
    *different(BASE, normalize=True, scale=100.0, data="trained"),
    *different(BASE, frozen="image"),
    *different(BASE, frozen="text", normalize=True),
    *different(SOME, frozen="image", backend="cpu"),
    *(x for name in ("chunked", "cpu") for x in different(BASE, backend=name)),
    *(x for data in ("trained", "cone") for x in different(SOME, data=data, backend="cpu")),
    *different(SOME, data="trained", scale=100.0, backend="cpu"),
    *different(SOME, data="adversarial", scale=100.0),
    # One pair per rank: a column without negatives on its own rank. Then even batches.
    *(replace(x, sizes=(1,) * len(x.sizes)) for x in BASE),
    *(replace(x, sizes=(4,) * len(x.sizes)) for x in SOME),
]


def assert_exact(actual, expected):
    assert actual.keys() == expected.keys()
    for name, true in expected.items():
        error = (actual[name] - true).norm() / true.norm().clamp_min(1e-300)
        assert error <= 1e-12, f"{name}: relative error {error:.3g}"


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_gradients_after_ddp_are_those_of_one_process(ranks, training):
    value, gradients = step_alone(training)
    results = ranks.run(len(training.sizes), step_of_rank, training)
    for rank_value, rank_gradients in results:
        assert torch.equal(rank_value, results[0][0])
        torch.testing.assert_close(rank_value, value, rtol=1e-12, atol=0)
        assert_exact(rank_gradients, gradients)


def scaled(gradients, of_encoders, of_scalars):
    factors = {"image": of_encoders, "text": of_encoders}
    return {name: factors.get(name.split(".")[0], of_scalars) * x for name, x in gradients.items()}


@pytest.mark.parametrize("training", [x for x in BASE if len(x.sizes) == 4], ids=str)
@pytest.mark.parametrize("of_encoders, of_scalars", [(1 / 4, 1), (1, 4), (1 / 4, 1 / 4), (1, 2)])
def test_comparison_rejects_the_ratios_of_others(ranks, training, of_encoders, of_scalars):
    _, gradients = step_alone(training)
    _, actual = ranks.run(4, step_of_rank, training)[0]
    assert_exact(actual, gradients)
    with pytest.raises(AssertionError, match="relative error"):
        assert_exact(scaled(actual, of_encoders, of_scalars), gradients)


@pytest.mark.parametrize("training", [x for x in BASE if len(x.sizes) == 4], ids=str)
def test_two_runs_give_equal_bits(ranks, training):
    first, second = (ranks.run(4, step_of_rank, training) for _ in range(2))
    for (value, gradients), (value_again, gradients_again) in zip(first, second, strict=True):
        assert torch.equal(value, value_again)
        assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)
