"""Compares a checkpoint with the run that is to resume from it.

Differences that are not possible are refused, all of them at once; possible ones are logged with
their effects. `resumed_settings.py` classifies settings, and `contents.py` compares model and data.
"""

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from fastclip.data.sources.source import Contents
from fastclip.models.towers.image_config import Moments
from fastclip.train.checkpoints.contents import (
    MODEL,
    STORED_TEACHER,
    TEACHER,
    TRAIN,
    contents_of_config,
    difference,
    stored_contents,
)
from fastclip.train.checkpoints.resumed_settings import (
    BEGINNING,
    CONTENTS,
    OF_MEMORY,
    OF_RATE,
    Change,
    changes,
    defaults_of,
    refusal_of_sizes,
    refusals,
    told_settings,
)
from fastclip.train.settings.loss_config import QUEUE
from fastclip.train.settings.optimisation_config import OptimisationConfig
from fastclip.train.settings.run_config import RunConfig
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.schedule import learning_rate_at

FIXED_SUBJECTS = (MODEL, TRAIN, TEACHER, STORED_TEACHER)
TEACHERS = ("distill_model", "distill_embeddings")


class OwnRun(NamedTuple):
    """The identity of a run, which is compared with a checkpoint and kept in checkpoints.

    Attributes:
        config: with the precision and the device that the run computes with.
        training: made from `config`.
        moments: AdamW's betas and epsilon where the settings do not give them.
        model_config: as JSON.
        contents: by subject, see `contents.py`.
        preprocess_cfg: how images are prepared, as JSON; None for the digits, which are pixels.
    """

    config: RunConfig
    training: StepConfig
    moments: Moments
    steps_per_epoch: int
    world_size: int
    model_config: dict[str, Any]
    contents: dict[str, Contents]
    preprocess_cfg: dict[str, Any] | None = None

    @property
    def config_in_force(self) -> RunConfig:
        """The settings with the number of the warm-up's steps, which a resumed run will keep."""
        if self.config.skip_scheduler:
            return self.config
        return replace(self.config, warmup=self.training.warmup_steps)

    def with_warmup_of(self, told: RunConfig) -> "OwnRun":
        """Return this run with the warm-up of the checkpoint, unless its settings give another."""
        if self.config.warmup is not None or told.warmup is None:
            return self
        config = replace(self.config, warmup=told.warmup)
        training = config.training(self.steps_per_epoch, self.world_size, self.moments)
        return self._replace(config=config, training=training)


class Resumption(NamedTuple):
    """How a run goes on from a checkpoint.

    Attributes:
        config: the settings in force.
        training: made from these settings.
        said: sentences about what has changed.
        warned: sentences about changes that make earlier and later metrics incomparable.
        measures_anew: the memory of a micro-batch has to be measured again.
    """

    config: RunConfig
    training: StepConfig
    said: list[str]
    warned: list[str]
    measures_anew: bool


def resumption(content: Mapping[str, Any], path: str, own: OwnRun) -> Resumption:
    """Compare a checkpoint with the run that is to go on from it.

    Raises:
        ValueError: the checkpoint is of another run (the message lists the differences), or has
            done more steps than the run has.
    """
    for part in ("config", "model_config"):
        if not isinstance(content.get(part), Mapping):
            raise ValueError(f"{path} is not a checkpoint of a run: it has no {part}")
    stored, step = content["config"], content["global_step"]
    try:
        told = told_settings(stored)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a checkpoint of a run: among its settings, {error}"
        ) from None
    own = own.with_warmup_of(told)
    config = own.config
    defaults = defaults_of(config.precision, config.device, own.moments)
    found = changes(stored, config, defaults)
    differing = _differing(content, own)
    refused = [
        *filter(None, [refusal_of_sizes(told, config, own.world_size)]),
        *refusals(found),
        *filter(None, [_refusal_of_average(content, config), _refusal_of_ids(told, config)]),
        *_refusals_of_teachers(told, config),
        *_refusals_of_contents(found, differing),
    ]
    if refused:
        raise ValueError(
            f"{path} is not of this run: {'; '.join(refused)}. Give the settings and the data of "
            f"its run, or begin another run from its weights with --pretrained {path}"
        )
    if step > own.training.steps:
        least = -(-step // own.steps_per_epoch)
        raise ValueError(
            f"--epochs {config.epochs} is less than {path} has already done, {step:,} steps at "
            f"{own.steps_per_epoch:,} per epoch: give --epochs {least} or more"
        )
    both = set(content.get("contents", ())) & set(own.contents)
    said = [_effect(change, both - set(differing), step) for change in found]
    if any(change.name in OF_RATE for change in found):
        said.append(_effect_on_rate(told, own, step))
    if step == own.training.steps:
        said.append(f"all {config.epochs} epochs are done: no step is left to train")
    return Resumption(
        replace(own.config_in_force, **{name: stored.get(name) for name in BEGINNING}),
        own.training,
        said,
        _of_evaluation(content, path, own, differing),
        any(change.name in OF_MEMORY for change in found),
    )


def _differing(content: Mapping[str, Any], own: OwnRun) -> dict[str, str]:
    """Return the differences of subjects that the checkpoint and the run both have."""
    before, now = stored_contents(content), own.contents
    if "contents" not in content:
        now = {MODEL: contents_of_config(own.model_config)}
    found = {
        subject: difference(before[subject], now[subject]) for subject in before if subject in now
    }
    return {subject: text for subject, text in found.items() if text is not None}


def _refusals_of_contents(found: list[Change], differing: Mapping[str, str]) -> list[str]:
    """Return the differences in model, training data and teachers, with the settings that name
    them."""
    refused = []
    for subject in FIXED_SUBJECTS:
        if subject in differing:
            refused += [str(change) for change in found if CONTENTS.get(change.name) == subject]
            refused.append(f"the contents of {subject} have changed: {differing[subject]}")
    return refused


def _refusal_of_average(content: Mapping[str, Any], config: OptimisationConfig) -> str | None:
    was = content["config"].get("ema_decay")
    if "ema_state_dict" in content and config.ema_decay is None:
        return (
            f"--ema-decay was {was}, is now not given (the average of the weights would be lost; "
            "--ema-decay 0 goes on without it)"
        )
    if "ema_state_dict" not in content and config.ema_decay:
        return f"--ema-decay was {was}, is now {config.ema_decay} (the checkpoint has no average)"
    return None


def _refusals_of_teachers(told: RunConfig, config: RunConfig) -> list[str]:
    """Return refusals of teachers that come or go; others are compared by their contents."""
    found = [Change(name, getattr(told, name), getattr(config, name)) for name in TEACHERS]
    return [
        f"{change} (the loss would be another one)"
        for change in found
        if (change.was is None) != (change.value is None)
    ]


def _refusal_of_ids(told: RunConfig, config: RunConfig) -> str | None:
    """Return a refusal if the ids in a queue would no longer fit, or None."""
    was, value = told.mask_duplicates, config.mask_duplicates
    if was == value or QUEUE not in (told.loss_name, config.loss_name):
        return None
    return f"--mask-duplicates was {was!r}, is now {value!r} (the keys in the queue have other ids)"


def _effect(change: Change, same: Container[str], step: int) -> str:
    """Return a sentence about a change and its effect.

    Args:
        same: subjects whose contents have not changed.
    """
    if change.name in BEGINNING:
        return f"{change}, without effect: the weights come from the checkpoint"
    if CONTENTS.get(change.name) in same:
        return f"{change}, with the same contents"
    return f"{change} from step {step + 1:,} on"


def _effect_on_rate(told: RunConfig, own: OwnRun, step: int) -> str:
    """Return a sentence about the effect of changes on the schedule of the learning rate."""
    before = told.training(own.steps_per_epoch, own.world_size, own.moments)
    now = own.training
    said = f"the run ends after step {now.steps:,}"
    if now.steps != before.steps:
        said += f" instead of {before.steps:,}, and so does its schedule"
    if step == now.steps:
        return said
    rate, last = (learning_rate_at(number, now) for number in (step, now.steps - 1))
    was = ""
    if step < before.steps:
        was = f", and would have been {learning_rate_at(step, before):.3g}"
    return (
        f"{said}: the learning rate of step {step + 1:,} is {rate:.3g}{was}; the learning rate of "
        f"the last step is {last:.3g} ({now.lr_scheduler})"
    )


def _of_evaluation(
    content: Mapping[str, Any], path: str, own: OwnRun, differing: Mapping[str, str]
) -> list[str]:
    """Return warnings about changes in the evaluation, and about metrics that do not compare."""
    if "contents" not in content:
        return [
            f"{path} is of a version that does not store the contents of its data: only the names "
            "of the data were compared"
        ]
    before, now = content["contents"], own.contents
    warned = [
        f"{subject} has changed, so that its metrics before and after do not compare: {text}"
        for subject, text in differing.items()
    ]
    warned += [f"{subject} is no longer evaluated" for subject in before if subject not in now]
    return warned + [
        f"{subject} is evaluated from now on" for subject in now if subject not in before
    ]
