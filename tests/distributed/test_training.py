"""After DDP's mean, every gradient is that of the whole batch in one process.

shared/design/numerics-and-gradients.md, section 1, lists what others give instead; each of those
ratios is rejected by the comparison used here.
"""

import pytest
import torch

from tests.distributed.towers import Training, step_alone, step_of_rank
from tests.support.pairwise import cover_pairs

KINDS = [(loss, schedule) for loss in ("clip", "siglip") for schedule in ("gather", "ring")]
# One pair per rank is a column without negatives on its own rank.
SIZES = [(5,), (5, 3), (5, 3, 1), (5, 3, 1, 7), (1, 1, 1), (4, 4, 4, 4)]
PROBLEMS = [
    # data, scale, normalize
    ("random", 14.3, False), ("trained", 100.0, True), ("cone", 14.3, False),
    ("adversarial", 100.0, False), ("trained", 14.3, False),
]  # fmt: skip
TRAININGS = [
    Training(*kind, sizes, scale, data, normalize, frozen, backend)
    for kind, sizes, (data, scale, normalize), frozen, backend in cover_pairs(
        KINDS, SIZES, PROBLEMS, [None, "image", "text"], ["reference", "chunked", "cpu"]
    )
]
OF_FOUR_RANKS = [Training(*kind, (5, 3, 1, 7)) for kind in KINDS]


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


@pytest.mark.parametrize("training", OF_FOUR_RANKS, ids=str)
def test_comparison_rejects_the_ratios_of_others(ranks, training):
    _, gradients = step_alone(training)
    _, actual = ranks.run(4, step_of_rank, training)[0]
    assert_exact(actual, gradients)
    for of_encoders, of_scalars in [(1 / 4, 1), (1, 4), (1 / 4, 1 / 4), (1, 2)]:
        with pytest.raises(AssertionError, match="relative error"):
            assert_exact(scaled(actual, of_encoders, of_scalars), gradients)


@pytest.mark.parametrize("training", OF_FOUR_RANKS, ids=str)
def test_two_runs_give_equal_bits(ranks, training):
    first, second = (ranks.run(4, step_of_rank, training) for _ in range(2))
    for (value, gradients), (value_again, gradients_again) in zip(first, second, strict=True):
        assert torch.equal(value, value_again)
        assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)
