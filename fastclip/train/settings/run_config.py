"""The settings of `fastclip train`, and the arithmetic that follows from it."""

import functools
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from fastclip.distributed.groups import LOSS_SCHEDULES
from fastclip.models.precision import MATRICES
from fastclip.models.tower_precision import PRECISIONS
from fastclip.train.memory.activation_budget import parse_budget
from fastclip.train.settings.step_config import ON_NONFINITE, SCHEDULERS, TrainConfig
from fastclip.train.settings.types import typed
from fastclip.train.step.optimizer import Moments

REPORTERS = ("tensorboard", "wandb")
A_YEAR = 525_600  # minutes
# Of `resume`, where it is no path: the newest checkpoint of the run; the same, or else afresh.
LATEST, ALLOW_FRESH = "latest", "allow-fresh"
MADE_TYPES = ("synthetic", "builtin")  # of training data that is made; other data is in files


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run; names are open_clip's where it has one. See `fastclip train --help`.

    Raises:
        ValueError: a value is of another type than its field, or out of its range.
    """

    train_data: str | None = None
    val_data: str | None = None
    dataset_type: str = "auto"
    csv_separator: str = "\t"
    csv_img_key: str | None = None
    csv_caption_key: str | None = None
    image_key: str | None = None
    caption_key: str | None = None
    train_num_samples: int | None = None
    workers: int = 4
    shuffle_buffer: int = 1000
    max_bad_rate: float = 0.1
    zeroshot_data: str | None = None
    zeroshot_classes: str | None = None
    zeroshot_templates: str | None = None
    imagenet_val: str | None = None
    imagenet_v2: str | None = None

    model: str = "ViT-B-32"
    pretrained: str | None = None
    siglip: bool = False
    lock_image: bool = False
    lock_image_unlocked_groups: int = 0
    lock_image_freeze_bn_stats: bool = False
    lock_text: bool = False
    lock_text_unlocked_layers: int = 0
    grad_checkpointing: bool = False
    force_patch_dropout: float | None = None
    force_image_size: tuple[int, ...] | None = None
    force_context_length: int | None = None
    force_quick_gelu: bool = False
    force_custom_text: bool = False
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    image_interpolation: str | None = None
    image_resize_mode: str | None = None
    aug_cfg: dict[str, Any] | None = None
    cache_dir: str | None = None
    torchcompile: bool = False

    batch_size: int = 64
    accum_freq: int = 1
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    activation_budget: str = "auto"
    loss_schedule: str = "gather"
    fsdp: bool = False
    backend: str = "auto"
    precision: str | None = None
    device: str | None = None
    dist_backend: str | None = None
    dist_timeout_minutes: float = 10.0

    epochs: int = 32
    lr: float = 5e-4
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    wd: float = 0.2
    warmup: int = 10000
    lr_scheduler: str = "cosine"
    epochs_cooldown: int | None = None
    lr_cooldown_power: float = 1.0
    lr_cooldown_end: float = 0.0
    skip_scheduler: bool = False
    ema_decay: float | None = None
    grad_clip_norm: float | None = None
    on_nonfinite: str = "stop"
    max_skipped_steps: int = 10
    seed: int = 0

    logs: str = "./logs"
    name: str | None = None
    resume: str | None = None
    log_every_n_steps: int = 100
    save_frequency: int = 1
    save_every_steps: int | None = None
    save_every_minutes: float | None = 30.0
    keep_last: int = 3
    save_most_recent: bool = False
    val_frequency: int = 1
    zeroshot_frequency: int = 2
    report_to: str = ""
    wandb_project_name: str = "open-clip"
    wandb_notes: str = ""

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = typed_setting(setting.name, getattr(self, setting.name))
            object.__setattr__(self, setting.name, value)
        is_name = self.name is None or _is_name(self.name)
        self._require(is_name, "name", "the name of one folder, in --logs, without / and \\")
        for name in (
            "batch_size", "accum_freq", "epochs", "log_every_n_steps", "keep_last",
            "max_skipped_steps",
        ):  # fmt: skip
            self._require(getattr(self, name) >= 1, name, "at least 1")
        frequencies = ("save_frequency", "val_frequency", "zeroshot_frequency")
        for name in ("workers", "warmup", "seed", *frequencies):
            self._require(getattr(self, name) >= 0, name, "at least 0")
        for name, column in (("image_key", "csv_img_key"), ("caption_key", "csv_caption_key")):
            values = {getattr(self, name), getattr(self, column)} - {None}
            self._require(len(values) < 2, name, f"{getattr(self, column)!r}, as {column} is")
        for name in ("global_batch_size", "micro_batch_size", "save_every_steps"):
            value = getattr(self, name)
            self._require(value is None or value >= 1, name, "at least 1")
        self._require(self.lr > 0, "lr", "positive")
        self._require(self.lr_scheduler in SCHEDULERS, "lr_scheduler", f"one of {SCHEDULERS}")
        self._require(self.on_nonfinite in ON_NONFINITE, "on_nonfinite", f"one of {ON_NONFINITE}")
        self._require(
            self.loss_schedule in LOSS_SCHEDULES, "loss_schedule", f"one of {LOSS_SCHEDULES}"
        )
        known = self.precision is None or self.precision in PRECISIONS
        self._require(known, "precision", f"one of {PRECISIONS}")
        # A scaler looks for overflow in its own gradients only; ranks would part ways.
        scaled = self.fsdp and self.precision in ("amp", "amp_fp16")
        self._require(not scaled, "precision", "amp_bf16 or one without a scaler with fsdp")
        mixed = self.fsdp and self.precision in MATRICES
        self._require(not mixed, "precision", "of one dtype for all parameters with fsdp")
        cools = self.lr_scheduler != "const-cooldown" or self.epochs_cooldown is not None
        self._require(cools, "epochs_cooldown", "given with const-cooldown")
        cooldown = self.epochs_cooldown
        self._require(cooldown is None or cooldown >= 0, "epochs_cooldown", "at least 0 or None")
        self._require(self.lr_cooldown_power > 0, "lr_cooldown_power", "positive")
        falls = 0 <= self.lr_cooldown_end <= self.lr
        self._require(falls, "lr_cooldown_end", f"between 0 and lr, which is {self.lr}")
        waits = 0 < self.dist_timeout_minutes <= A_YEAR
        self._require(waits, "dist_timeout_minutes", f"above 0 and at most {A_YEAR} (a year)")
        decay = self.ema_decay
        self._require(decay is None or 0 <= decay < 1, "ema_decay", "in [0, 1)")
        known = set(self.reporters) <= set(REPORTERS)
        self._require(known, "report_to", f"some of {REPORTERS} with commas between, or all")
        if self.activation_budget != "auto":
            parse_budget(self.activation_budget)

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def reporters(self) -> tuple[str, ...]:
        """What steps and evaluations are reported to, in addition to the files of the run."""
        if self.report_to == "all":
            return REPORTERS
        return tuple(name for name in self.report_to.split(",") if name)

    def arithmetic(self, world_size: int) -> "Arithmetic":
        """How a step's pairs are dealt to ranks and micro-batches.

        Raises:
            ValueError: the global batch is no multiple of ranks x micro-batch, or is not what
                `accum_freq` says.
        """
        micro = self.micro_batch_size or self.batch_size
        whole = self.global_batch_size or self.batch_size * self.accum_freq * world_size
        if self.global_batch_size is not None and self.micro_batch_size is None:
            micro = math.gcd(whole // world_size or 1, micro) if whole % world_size == 0 else micro
        if whole % (world_size * micro):
            raise ValueError(
                f"global_batch_size {whole} must be a multiple of {world_size} ranks x "
                f"micro_batch_size {micro} = {world_size * micro}"
            )
        count = whole // (world_size * micro)
        if self.global_batch_size is not None and self.accum_freq not in (1, count):
            raise ValueError(
                f"accum_freq {self.accum_freq} is not the number of micro-batches of a rank, "
                f"{count}, that global_batch_size {whole} gives: leave one of the two out"
            )
        return Arithmetic(world_size, count, micro)

    def training(self, steps_per_epoch: int, world_size: int, moments: Moments) -> TrainConfig:
        """What a step needs to know.

        Args:
            moments: of AdamW, where the run does not say them.

        Raises:
            ValueError: a value is out of its range.
        """
        steps = self.epochs * steps_per_epoch
        warmup = 0 if self.skip_scheduler else self.warmup
        cooldown = (self.epochs_cooldown or 0) * steps_per_epoch
        arithmetic = self.arithmetic(world_size)
        own = {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        given = {name: value for name, value in own.items() if value is not None}
        return TrainConfig(
            batch_size=arithmetic.global_batch_size, steps=steps, warmup_steps=warmup,
            micro_batch_size=arithmetic.micro_batch_size, activation_budget=self.activation_budget,
            learning_rate=self.lr, weight_decay=self.wd, grad_clip_norm=self.grad_clip_norm,
            lr_scheduler="const" if self.skip_scheduler else self.lr_scheduler,
            lr_cooldown_steps=min(cooldown, max(0, steps - warmup)),
            lr_cooldown_power=self.lr_cooldown_power, lr_cooldown_end=self.lr_cooldown_end,
            on_nonfinite=self.on_nonfinite, max_skipped_steps=self.max_skipped_steps,
            seed=self.seed, backend=self.backend, **(moments._asdict() | given),
        )  # fmt: skip

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")


def typed_setting(name: str, value: Any) -> Any:
    """Return the value of a setting as its field keeps it.

    Raises:
        ValueError: it is of another type.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "force_image_size" and is_number:
        value = (value,)
    if name == "activation_budget" and is_number:  # bytes
        value = str(value)
    return typed(name, value, _hints()[name])


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(RunConfig)


def _is_name(text: str) -> bool:
    """Does it name a folder inside another, whatever the system?"""
    has_separator = not {"/", "\\"}.isdisjoint(text)
    # What the locale could not read of a command line are bytes of UTF-8.
    read = text.encode(errors="surrogateescape").decode(errors="replace")
    return read.isprintable() and not has_separator and text.strip() not in ("", ".", "..")


@dataclass(frozen=True)
class Arithmetic:
    """ranks x micro-batches x size = pairs in one loss."""

    world_size: int
    num_micro_batches: int
    micro_batch_size: int

    @property
    def global_batch_size(self) -> int:
        return self.world_size * self.num_micro_batches * self.micro_batch_size

    def __str__(self) -> str:
        return (
            f"{self.global_batch_size:,} pairs in one loss = {self.world_size} ranks x "
            f"{self.num_micro_batches} micro-batches x {self.micro_batch_size}"
        )
