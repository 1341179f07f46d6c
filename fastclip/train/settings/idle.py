"""Finds settings that another setting makes idle, so that a run can say so, and why."""

from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

from fastclip.train.settings.data_config import MADE_TYPES
from fastclip.train.settings.loss_config import CLIP
from fastclip.train.settings.run_config import RunConfig


class Idle(NamedTuple):
    """Attributes:
    settings: the names of settings that may have no effect.
    where: says whether these settings have no effect in a run.
    reason: why they have none.
    """

    settings: tuple[str, ...]
    where: Callable[[RunConfig], bool]
    reason: str


def _has_no_cooldown(config: RunConfig) -> bool:
    return config.skip_scheduler or config.lr_scheduler != "const-cooldown"


def _has_none_of(*types: str) -> Callable[[RunConfig], bool]:
    """Return whether no data of a run is of these types, or of a type that is yet to be found."""

    def has_none(config: RunConfig) -> bool:
        found = {config.dataset_type}
        if config.val_data is not None and config.dataset_type in MADE_TYPES:
            found.add("auto")
        return found.isdisjoint((*types, "auto"))

    return has_none


IDLE = (
    Idle(
        ("lock_image_unlocked_groups", "lock_image_freeze_bn_stats"),
        lambda config: not config.lock_image,
        "it applies to a locked image tower, and --lock-image is not given",
    ),
    Idle(
        ("pretrained_text",),
        lambda config: config.pretrained is not None,
        "--pretrained provides the weights of both towers",
    ),
    Idle(
        ("lock_text_unlocked_layers",),
        lambda config: not config.lock_text,
        "it applies to a locked text tower, and --lock-text is not given",
    ),
    Idle(
        ("warmup", "lr_scheduler"),
        lambda config: config.skip_scheduler,
        "with --skip-scheduler the learning rate is constant, without a warm-up or a cooldown",
    ),
    Idle(
        ("epochs_cooldown", "lr_cooldown_power", "lr_cooldown_end"),
        _has_no_cooldown,
        "only --lr-scheduler const-cooldown has a cooldown",
    ),
    Idle(
        ("max_skipped_steps",),
        lambda config: config.on_nonfinite != "skip",
        "it applies to --on-nonfinite skip, which is not given",
    ),
    Idle(
        ("batch_size",),
        lambda config: None not in (config.global_batch_size, config.micro_batch_size),
        "--global-batch-size and --micro-batch-size determine all sizes of a batch",
    ),
    Idle(
        ("csv_separator",),
        _has_none_of("csv"),
        "the data is not a table",
    ),
    Idle(("csv_img_key", "csv_caption_key"), _has_none_of("csv", "hf"), "the data has no columns"),
    Idle(
        ("zeroshot_classes", "zeroshot_templates"),
        lambda config: config.zeroshot_data is None,
        "it applies to --zeroshot-data, which is not given",
    ),
    Idle(
        ("zeroshot_frequency",),
        lambda config: not (config.zeroshot_data or config.imagenet_val or config.imagenet_v2),
        "nothing is classified zero-shot",
    ),
    Idle(("val_frequency",), lambda config: config.val_data is None, "--val-data is not given"),
    Idle(
        ("batch_curve_every",),
        lambda config: config.loss_name != CLIP or config.matryoshka_dims is not None,
        "the curve shows the loss of CLIP, and the run trains with another loss",
    ),
    Idle(
        ("label_smoothing", "margin", "mask_duplicates", "batch_curve_every"),
        lambda config: config.coca_contrastive_loss_weight == 0,
        "--coca-contrastive-loss-weight 0 leaves out the contrastive loss",
    ),
    Idle(
        ("wandb_project_name", "wandb_notes"),
        lambda config: "wandb" not in config.reporters,
        "it applies to --report-to wandb, which is not given",
    ),
)


def idle_settings(config: RunConfig) -> dict[str, str]:
    """Return the settings that differ from their defaults but have no effect, each with a reason.

    Example:
        >>> idle_settings(RunConfig(zeroshot_classes="names.txt"))
        {'zeroshot_classes': 'it applies to --zeroshot-data, which is not given'}
    """
    defaults = {f.name: f.default for f in fields(RunConfig)}
    return {
        name: idle.reason
        for idle in IDLE
        if idle.where(config)
        for name in idle.settings
        if getattr(config, name) != defaults[name]
    }
