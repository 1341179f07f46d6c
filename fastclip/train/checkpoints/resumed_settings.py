"""Compares the settings of a resumed run with the settings in its checkpoint, one by one.

    FREE        may change at any step; the new value holds from then on
    STRETCHED   the length of the run, which may change, but not below the steps already done
    FIXED       determines the identity of the run: another value is refused
    SIZES       of the parts of a step, which may change together as long as the step stays the same
    CONTENTS    names model and data, which are compared by their contents (`contents.py`)
    BEGINNING   what a run begins with, which has no effect later
    PLACES      where files are, which does not matter

Every setting is in one of these groups. A setting without effect (`settings/idle.py`) never counts
as a difference, and a setting that an older checkpoint lacks counts as having been the default.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from fastclip.data.quoting import cut
from fastclip.models.towers.image_config import Moments
from fastclip.train.checkpoints.contents import (
    MODEL,
    NUM_SHOWN,
    STORED_TEACHER,
    TEACHER,
    TRAIN,
    VALIDATION,
)
from fastclip.train.settings.batch_config import BatchConfig
from fastclip.train.settings.idle import idle_settings
from fastclip.train.settings.run_config import RunConfig

FREE = (
    "max_bad_rate", "grad_checkpointing", "force_patch_dropout", "aug_cfg", "decode",
    "torchcompile",
    "activation_budget", "loss_schedule", "fsdp", "backend", "device", "dist_backend",
    "lr", "beta1", "beta2", "eps", "wd", "warmup", "lr_scheduler", "epochs_cooldown",
    "lr_cooldown_power", "lr_cooldown_end", "skip_scheduler", "grad_clip_norm", "ema_decay",
    "log_every_n_steps", "batch_curve_every", "save_frequency", "save_every_steps",
    "save_every_minutes", "keep_last", "save_most_recent", "keep_checkpoints", "best_metric",
    "image_cache", "val_frequency", "zeroshot_frequency",
    "report_to", "wandb_project_name", "wandb_notes", "on_nonfinite",
    "max_skipped_steps", "dist_timeout_minutes",
    "label_smoothing", "margin", "coca_caption_loss_weight", "coca_contrastive_loss_weight",
    "dcl_sigma", "sogclr_gamma", "sogclr_rho",
    "matryoshka_weights", "mask_duplicates", "distill_logit_scale",
)  # fmt: skip
STRETCHED = ("epochs",)
_ORDER = "the order of the samples depends on it"
_LOCKED = "it decides which weights are trained"
FIXED = {
    "train_num_samples": "the length of an epoch depends on it",
    "workers": "the order of the samples depends on how many processes read them",
    "shuffle_buffer": _ORDER,
    "seed": _ORDER,
    "siglip": "the two losses have different scales, and only one has a bias",
    "loss": "a loss cannot use the state of another loss",
    "queue_size": "the checkpoint has a queue of the former size",
    "queue_momentum": "the keys in the queue were made with the former momentum",
    "matryoshka_dims": "every length has a loss of its own",
    "precision": "it determines how weights and moments are stored",
    "lock_image": _LOCKED,
    "lock_image_unlocked_groups": _LOCKED,
    "lock_image_freeze_bn_stats": _LOCKED,
    "lock_text": _LOCKED,
    "lock_text_unlocked_layers": _LOCKED,
}
SIZES = ("batch_size", "accum_freq", "global_batch_size", "micro_batch_size")
_ZERO_SHOT = "zeroshot-val"
CONTENTS = {
    "model": MODEL, "force_image_size": MODEL, "force_context_length": MODEL,
    "force_quick_gelu": MODEL, "force_custom_text": MODEL, "image_mean": MODEL, "image_std": MODEL,
    "image_interpolation": MODEL, "image_resize_mode": MODEL,
    "train_data": TRAIN, "dataset_type": TRAIN, "csv_separator": TRAIN, "csv_img_key": TRAIN,
    "csv_caption_key": TRAIN, "image_key": TRAIN, "caption_key": TRAIN,
    "distill_model": TEACHER, "distill_pretrained": TEACHER, "distill_embeddings": STORED_TEACHER,
    "val_data": VALIDATION, "zeroshot_data": _ZERO_SHOT, "zeroshot_classes": _ZERO_SHOT,
    "zeroshot_templates": _ZERO_SHOT, "imagenet_val": "imagenet-zeroshot-val",
    "imagenet_v2": "imagenetv2-zeroshot-val",
}  # fmt: skip
BEGINNING = ("pretrained", "pretrained_text")
PLACES = ("cache_dir", "logs", "name", "resume")

# Settings that determine the learning rate of a step, and the memory of a micro-batch.
OF_RATE = (
    "epochs", "lr", "warmup", "lr_scheduler", "epochs_cooldown", "lr_cooldown_power",
    "lr_cooldown_end", "skip_scheduler",
)  # fmt: skip
OF_MEMORY = ("grad_checkpointing", "force_patch_dropout", "torchcompile", "fsdp", "device")


class Change(NamedTuple):
    """A setting whose value has changed."""

    name: str
    was: Any
    value: Any
    is_told: bool = True  # the checkpoint has this setting

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def __str__(self) -> str:
        was, value = (cut(_text(value), NUM_SHOWN) for value in (self.was, self.value))
        older = "" if self.is_told else " (in a version without this flag)"
        return f"{self.flag} was {was}{older}, is now {value}"


def _text(value: Any) -> str:
    """Return a value as its flag takes it: a single value of a flag for several has no brackets."""
    return repr(value[0] if isinstance(value, tuple) and len(value) == 1 else value)


def told_settings(stored: Mapping[str, Any]) -> RunConfig:
    """Return the settings in a checkpoint; those that it lacks have their defaults.

    Raises:
        ValueError: a value is out of its range.
    """
    return RunConfig(**{f.name: stored[f.name] for f in fields(RunConfig) if f.name in stored})


def changes(
    stored: Mapping[str, Any], given: RunConfig, defaults: Mapping[str, Any]
) -> list[Change]:
    """Return the settings whose effect has changed, except `SIZES` and `PLACES`.

    Args:
        stored: the settings in the checkpoint.
        given: the settings of this run.
        defaults: the values that settings of None stand for in this run.
    """
    told = told_settings(stored)
    before, now = _in_force(told, defaults), _in_force(given, defaults)
    return [
        Change(name, _shown(told, name, before), _shown(given, name, now), name in stored)
        for name, value in now.items()
        if name not in SIZES and name not in PLACES and value != before[name]
    ]


def refusals(found: list[Change]) -> list[str]:
    """Return which of the changes are not possible, each with the reason."""
    return [f"{change} ({FIXED[change.name]})" for change in found if change.name in FIXED]


def refusal_of_sizes(told: BatchConfig, given: BatchConfig, world_size: int) -> str | None:
    """Return how the sizes of a step differ between the two runs, or None if they are equal."""
    was, value = (config.arithmetic(world_size) for config in (told, given))
    return None if was == value else f"a step was {was}, is now {value}"


def defaults_of(precision: str, device: str, moments: Moments) -> dict[str, Any]:
    """Return the values that settings of None stand for in a run."""
    return {"precision": precision, "device": device, **moments._asdict()}


def _in_force(config: RunConfig, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in effect: idle settings have their default, and synonyms are unified."""
    values = config.to_dict()
    idle = idle_settings(config)
    values |= {f.name: f.default for f in fields(RunConfig) if f.name in idle}
    values |= {name: value for name, value in defaults.items() if values[name] is None}
    values["workers"] = max(values["workers"], 1)  # one worker reads in the same order as none
    values["ema_decay"] = values["ema_decay"] or None
    values["loss"] = config.loss_name
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _shown(config: RunConfig, name: str, in_force: Mapping[str, Any]) -> Any:
    """Return the value as it was given, or the value that None stands for."""
    value = getattr(config, name)
    return in_force[name] if value is None else value
