"""What a run says of settings that cannot do what they say."""

import pytest

from fastclip.models.towers.image_config import Moments
from fastclip.train.run.cautions import cautions, default_warmup
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.step.schedule import learning_rate_at

STEPS_PER_EPOCH = 5


def said(**settings):
    config = RunConfig(**settings)
    training = config.training(STEPS_PER_EPOCH, 1, Moments(0.9, 0.98, 1e-6))
    return cautions(config, training, STEPS_PER_EPOCH), training


@pytest.mark.parametrize(
    "settings",
    [
        dict(warmup=4, epochs=1),
        dict(warmup=5, epochs=1, lr_scheduler="const"),
        dict(skip_scheduler=True, epochs=1),
        dict(lr_scheduler="const-cooldown", epochs_cooldown=2, epochs=3, warmup=5),
        dict(warmup=0, ema_decay=0.9, epochs=4),
        dict(warmup=0, batch_curve_every=5, epochs=1),
        dict(warmup=0, loss="queue", mask_duplicates="image", epochs=1),
    ],
)
def test_schedules_that_do_what_they_say_are_not_remarked_on(settings):
    assert said(**settings)[0] == []


@pytest.mark.parametrize(
    "settings, steps, warmup, highest",
    [
        (dict(epochs=2, warmup=10_000), "10 steps", "10,000 steps", "5e-07"),
        (dict(epochs=1, warmup=6, lr=0.6), "5 steps", "6 steps", "0.5"),
        (dict(epochs=1, warmup=5, lr=0.6), "5 steps", "5 steps", "0.6"),
        (dict(epochs=1, warmup=50, lr_scheduler="const"), "5 steps", "50 steps", "5e-05"),
    ],
)
def test_warm_up_that_outlasts_the_run_is_said_with_the_rate_that_is_reached(
    settings, steps, warmup, highest
):
    (text,), training = said(**settings)
    assert f"the run has {steps}, which all lie in the warm-up of {warmup}" in text
    assert f"rises to {highest} (--lr is {training.learning_rate:.3g})" in text
    assert float(highest) == pytest.approx(
        max(learning_rate_at(step, training) for step in range(training.steps)), rel=1e-2
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            dict(epochs_cooldown=3, warmup=0),
            "asks for 15 steps, but the run of 10 steps has 10 steps left",
        ),
        (dict(epochs_cooldown=2, warmup=4), "falls over 6 steps"),
        (dict(epochs_cooldown=0, warmup=4), "does not fall"),
    ],
)
def test_cooldown_that_is_cut_is_said(settings, message):
    (text,), training = said(epochs=2, lr_scheduler="const-cooldown", **settings)
    assert message in text
    rates = [learning_rate_at(step, training) for step in range(10)]
    falling = sum(rate < training.learning_rate for rate in rates[training.warmup_steps :])
    assert falling == max(0, training.lr_cooldown_steps - 1)  # it begins at the peak


def test_warm_up_and_cooldown_longer_than_the_run_are_both_said():
    texts, _ = said(epochs=2, warmup=10, lr_scheduler="const-cooldown", epochs_cooldown=1)
    assert len(texts) == 2
    assert "all lie in the warm-up" in texts[0] and "falls over 0 steps" in texts[1]


def test_average_that_stays_where_it_began_is_said():
    (text,), _ = said(epochs=2, warmup=0, ema_decay=0.9999)
    assert (
        "--ema-decay 0.9999 is slow for a run of 10 steps: at the end, 100% of the average" in text
    )
    (text,), _ = said(epochs=2, warmup=0, ema_decay=0.95)
    assert "63% of the average" in text  # 0.95^9


def test_a_curve_that_no_step_reaches_is_said():
    (text,), _ = said(epochs=1, warmup=0, batch_curve_every=6)
    assert text == "--batch-curve-every 6 gives no curve: the run has 5 steps"


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(epochs_cooldown=-1), "epochs_cooldown must be at least 0"),
        (dict(lr_cooldown_power=0.0), "lr_cooldown_power must be positive"),
        (dict(lr=1e-4, lr_cooldown_end=1e-3), "lr_cooldown_end must be between 0 and lr"),
    ],
)
def test_impossible_cooldowns_are_refused_by_the_names_of_their_flags(settings, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(lr_scheduler="const-cooldown", **{"epochs_cooldown": 1, **settings})


@pytest.mark.parametrize(
    "settings, steps, words",
    [
        (dict(epochs=4), 2, "rises for 2 steps, a tenth of the run's 20"),
        (
            dict(epochs=30_000),
            10_000,
            "10,000 steps, the longest default warm-up; the run has 150,000",
        ),
        (dict(epochs=4, warmup=3), 3, None),
        (dict(epochs=4, skip_scheduler=True), 0, None),
        (dict(epochs=1), 0, "a run of 5 steps has no warm-up"),
    ],
)
def test_warm_up_that_is_not_given_is_a_tenth_of_the_run(settings, steps, words):
    config = RunConfig(**settings)
    training = config.training(STEPS_PER_EPOCH, 1, Moments(0.9, 0.98, 1e-6))
    assert training.warmup_steps == steps
    text = default_warmup(config, training)
    assert (text is None) == (words is None) and (words or "") in (text or "")


def test_warm_up_of_a_checkpoint_is_said_where_it_is_another():
    training = RunConfig(epochs=4, warmup=7).training(STEPS_PER_EPOCH, 1, Moments(0.9, 0.98, 1e-6))
    assert "7 steps of the checkpoint, though a new run of 20 steps would" in default_warmup(
        RunConfig(epochs=4), training
    )
