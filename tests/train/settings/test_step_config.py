import dataclasses

import pytest

from fastclip.train.settings.step_config import StepConfig


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(batch_size=1), "batch_size must be at least 2, got 1"),
        (dict(steps=0), "steps"),
        (dict(warmup_steps=-1), "warmup_steps"),
        (dict(learning_rate=0.0), "learning_rate"),
        (dict(learning_rate=float("nan")), "learning_rate"),
        (dict(weight_decay=-0.1), "weight_decay"),
        (dict(beta1=1.0), "beta1"),
        (dict(beta2=-0.1), "beta2"),
        (dict(eps=0.0), "eps"),
        (dict(grad_clip_norm=0.0), "grad_clip_norm"),
        (dict(seed=-1), "seed"),
        (dict(micro_batch_size=0), "micro_batch_size"),
        (dict(lr_scheduler="linear"), "lr_scheduler"),
        (dict(lr_cooldown_steps=101), "lr_cooldown_steps"),
        (dict(lr_cooldown_power=0.0), "lr_cooldown_power"),
        (dict(lr_cooldown_end=1.0), "lr_cooldown_end"),
        (dict(activation_budget="much"), "activation_budget"),
    ],
)
def test_config_names_the_value_it_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        StepConfig(**{"batch_size": 8, "steps": 100, **change})


def test_config_cannot_be_changed_after_its_check():
    config = StepConfig(batch_size=8, steps=100)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.batch_size = 1


def test_config_survives_a_round_trip_through_plain_values():
    config = StepConfig(batch_size=8, steps=100, warmup_steps=3, grad_clip_norm=1.0, seed=5)
    assert StepConfig(**config.to_dict()) == config
