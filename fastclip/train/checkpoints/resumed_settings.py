"""What a resumed run is told, against what the run of its checkpoint was told: setting by setting.

    FREE        may change at any step, and what is given holds from there on
    STRETCHED   the length of the run: free, down to what is done
    FIXED       is what makes the run what it is: another value is refused
    SIZES       of a step's parts, which are fixed by what follows from all four
    CONTENTS    name model and data, which are compared by what is in them (`contents.py`)
    BEGINNING   what a run begins with: it has no effect later
    PLACES      where things are: of no account

Every setting is in one of these. What has no effect (`settings/idle.py`) is never a difference, and
what an older checkpoint does not say is taken to have been the default.
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
_LOCKED = "other weights would be trained"
FIXED = {
    "train_num_samples": "the length of an epoch depends on it",
    "workers": "the order of the samples depends on how many processes read them",
    "shuffle_buffer": _ORDER,
    "seed": _ORDER,
    "siglip": "the other loss has another scale, and a bias",
    "loss": "what a loss remembers is of no use to another",
    "queue_size": "the queue is stored at its size",
    "queue_momentum": "the keys in the queue were made by an encoder that followed so",
    "matryoshka_dims": "every length has a loss of its own",
    "precision": "weights and moments are stored as it says",
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

# What the rate of a step depends on, and what the memory of a micro-batch does.
OF_RATE = (
    "epochs", "lr", "warmup", "lr_scheduler", "epochs_cooldown", "lr_cooldown_power",
    "lr_cooldown_end", "skip_scheduler",
)  # fmt: skip
OF_MEMORY = ("grad_checkpointing", "force_patch_dropout", "torchcompile", "fsdp", "device")


class Change(NamedTuple):
    """A setting that is not what it was."""

    name: str
    was: Any
    value: Any
    is_told: bool = True  # by the checkpoint

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def __str__(self) -> str:
        was, value = (cut(_text(value), NUM_SHOWN) for value in (self.was, self.value))
        older = "" if self.is_told else " (in a version without it)"
        return f"{self.flag} was {was}{older}, is {value}"


def _text(value: Any) -> str:
    """A value as its flag has it: one alone, of a flag that takes several, without brackets."""
    return repr(value[0] if isinstance(value, tuple) and len(value) == 1 else value)


def told_settings(stored: Mapping[str, Any]) -> RunConfig:
    """What the run of a checkpoint was told; see the module for what its file does not say.

    Raises:
        ValueError: a value is out of its range.
    """
    return RunConfig(**{f.name: stored[f.name] for f in fields(RunConfig) if f.name in stored})


def changes(
    stored: Mapping[str, Any], given: RunConfig, defaults: Mapping[str, Any]
) -> list[Change]:
    """Settings whose effect is another one, but for `SIZES` and `PLACES`.

    Args:
        stored: of the checkpoint.
        defaults: what settings that are None stand for in this run.
    """
    told = told_settings(stored)
    before, now = _in_force(told, defaults), _in_force(given, defaults)
    return [
        Change(name, _shown(told, name, before), _shown(given, name, now), name in stored)
        for name, value in now.items()
        if name not in SIZES and name not in PLACES and value != before[name]
    ]


def refusals(found: list[Change]) -> list[str]:
    """Say which of the changes cannot be, and why."""
    return [f"{change} ({FIXED[change.name]})" for change in found if change.name in FIXED]


def refusal_of_sizes(told: BatchConfig, given: BatchConfig, world_size: int) -> str | None:
    """Say how the steps of the two runs differ in their pairs, or None."""
    was, value = (config.arithmetic(world_size) for config in (told, given))
    return None if was == value else f"a step was {was}, is {value}"


def defaults_of(precision: str, device: str, moments: Moments) -> dict[str, Any]:
    """What settings that are None stand for in a run."""
    return {"precision": precision, "device": device, **moments._asdict()}


def _in_force(config: RunConfig, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Values by what they do: idle ones are their default, and some spellings are alike."""
    values = config.to_dict()
    idle = idle_settings(config)
    values |= {f.name: f.default for f in fields(RunConfig) if f.name in idle}
    values |= {name: value for name, value in defaults.items() if values[name] is None}
    values["workers"] = max(values["workers"], 1)  # one process reads as the run's own does
    values["ema_decay"] = values["ema_decay"] or None
    values["loss"] = config.loss_name
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _shown(config: RunConfig, name: str, in_force: Mapping[str, Any]) -> Any:
    """The value as it was given, or what it stands for."""
    value = getattr(config, name)
    return in_force[name] if value is None else value
