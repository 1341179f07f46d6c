import pytest

from fastclip.train.config import TrainConfig
from fastclip.train.schedule import learning_rate_at

CONFIG = TrainConfig(batch_size=8, steps=110, warmup_steps=10, learning_rate=2e-3)


@pytest.mark.parametrize(
    "step, expected",
    [
        (0, 2e-4),
        (4, 1e-3),
        (9, 2e-3),
        (10, 2e-3),
        (35, 2e-3 * 0.8535533905932737),
        (60, 1e-3),
        (110, 0.0),
        (999, 0.0),
    ],
)
def test_learning_rate_rises_then_falls_along_a_cosine(step, expected):
    assert learning_rate_at(step, CONFIG) == pytest.approx(expected, abs=1e-12)


def test_every_step_of_a_run_learns():
    for warmup_steps in (0, 1, 5):
        config = TrainConfig(batch_size=8, steps=5, warmup_steps=warmup_steps)
        assert all(learning_rate_at(step, config) > 0 for step in range(5))
