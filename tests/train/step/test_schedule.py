from dataclasses import replace
from pathlib import Path

import pytest

from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.schedule import learning_rate_at

CONFIG = StepConfig(batch_size=8, steps=110, warmup_steps=10, learning_rate=2e-3)


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
        config = StepConfig(batch_size=8, steps=5, warmup_steps=warmup_steps)
        assert all(learning_rate_at(step, config) > 0 for step in range(5))


def test_constant_rate_rises_and_stays():
    config = replace(CONFIG, lr_scheduler="const")
    assert learning_rate_at(4, config) == pytest.approx(1e-3)
    assert {learning_rate_at(step, config) for step in (9, 10, 60, 109)} == {2e-3}


@pytest.mark.parametrize(
    "step, expected",
    [(4, 1e-3), (50, 2e-3), (89, 2e-3), (90, 2e-3), (100, 1e-4 + 1.9e-3 / 4), (110, 1e-4)],
)
def test_cooldown_falls_over_the_last_steps(step, expected):
    config = replace(
        CONFIG, lr_scheduler="const-cooldown", lr_cooldown_steps=20, lr_cooldown_power=2.0,
        lr_cooldown_end=1e-4,
    )  # fmt: skip
    assert learning_rate_at(step, config) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scheduler", ["cosine", "const", "const-cooldown"])
def test_rates_are_open_clips(scheduler):
    path = Path(pytest.importorskip("open_clip_train").__file__).parent / "scheduler.py"
    names: dict = {}
    exec(path.read_text(), names)

    class Optimizer:
        param_groups = [{"lr": None}]  # noqa: RUF012

    optimizer = Optimizer()
    config = replace(
        CONFIG, lr_scheduler=scheduler, lr_cooldown_steps=30, lr_cooldown_power=1.5,
        lr_cooldown_end=1e-5,
    )  # fmt: skip
    make = {
        "cosine": lambda: names["cosine_lr"](optimizer, 2e-3, 10, 110),
        "const": lambda: names["const_lr"](optimizer, 2e-3, 10, 110),
        "const-cooldown": lambda: names["const_lr_cooldown"](
            optimizer, 2e-3, 10, 110, 30, 1.5, 1e-5
        ),
    }
    theirs = make[scheduler]()
    for step in range(110):
        theirs(step)
        ours = learning_rate_at(step, config)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(ours, rel=1e-9), step
