"""All settings of `fastclip train`, composed of parts that are read by different code.

Code that reads settings is annotated with its part: the function that opens the training data takes
a `DataConfig`, and a `RunConfig` is a `DataConfig`. So settings stay flat wherever a user meets
them (as flags, lines of a file, in params.txt and in a checkpoint), and no code sees more settings
than it needs.
"""

from dataclasses import dataclass, fields

from fastclip.models.towers.image_config import Moments
from fastclip.train.settings.batch_config import BatchConfig
from fastclip.train.settings.compute_config import ComputeConfig
from fastclip.train.settings.data_config import DataConfig, SourceConfig
from fastclip.train.settings.evaluation_config import EvaluationConfig
from fastclip.train.settings.loss_config import CLIP, SIGLIP, LossConfig
from fastclip.train.settings.loss_options import DISTILLED, is_obeyed
from fastclip.train.settings.model_config import ModelConfig
from fastclip.train.settings.optimisation_config import OptimisationConfig
from fastclip.train.settings.output_config import CheckpointConfig, LogConfig
from fastclip.train.settings.setting import Settings
from fastclip.train.settings.step_config import StepConfig

# The parts, by the titles that `fastclip train --help` gives them.
PARTS: dict[str, type[Settings]] = {
    "training data": DataConfig,
    "evaluation": EvaluationConfig,
    "how data is read": SourceConfig,
    "model": ModelConfig,
    "batch": BatchConfig,
    "computation": ComputeConfig,
    "loss": LossConfig,
    "optimisation": OptimisationConfig,
    "checkpoints": CheckpointConfig,
    "log": LogConfig,
}


@dataclass(frozen=True)
class RunConfig(  # the fields of the last part come first
    LogConfig,
    CheckpointConfig,
    OptimisationConfig,
    LossConfig,
    ComputeConfig,
    BatchConfig,
    ModelConfig,
    EvaluationConfig,
    DataConfig,
):
    """All settings of a run, under open_clip's names where it has one; see `fastclip train --help`.

    Raises:
        ValueError: a value is of another type than its field, or out of its range.

    Example:
        >>> RunConfig(train_data="pairs.tsv", batch_size=256, precision="bf16").epochs
        32
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        agrees = not self.siglip or self.loss in (None, SIGLIP)
        self._require(agrees, "loss", "siglip, or left out, if siglip is true")
        # Code that reads the settings of the model only needs to know it.
        object.__setattr__(self, "siglip", self.loss_name == SIGLIP)
        is_distilled = self.distilled_by is not None and self.loss_name == CLIP
        loss = DISTILLED if is_distilled else self.loss_name
        named = self.distilled_by if is_distilled else loss
        for of in fields(self):
            holds = is_obeyed(of.name, loss) or getattr(self, of.name) == of.default
            usual = "left out" if of.default is None else f"{of.default}".removesuffix(".0")
            self._require(holds, of.name, f"{usual} with {named}, whose loss does not use it")

    @property
    def loss_name(self) -> str:
        """The loss to train with, one of `LOSSES`, whether `loss` or `siglip` chooses it."""
        return self.loss or (SIGLIP if self.siglip else CLIP)

    def training(self, steps_per_epoch: int, world_size: int, moments: Moments) -> StepConfig:
        """Return the settings that a step needs.

        Args:
            moments: AdamW's betas and epsilon where these settings do not give them.

        Raises:
            ValueError: a value is out of its range.
        """
        steps = self.epochs * steps_per_epoch
        warmup = self.warmup_of(steps)
        cooldown = (self.epochs_cooldown or 0) * steps_per_epoch
        arithmetic = self.arithmetic(world_size)
        own = {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        given = {name: value for name, value in own.items() if value is not None}
        return StepConfig(
            batch_size=arithmetic.global_batch_size, steps=steps, warmup_steps=warmup,
            micro_batch_size=arithmetic.micro_batch_size, activation_budget=self.activation_budget,
            learning_rate=self.lr, weight_decay=self.wd, grad_clip_norm=self.grad_clip_norm,
            lr_scheduler="const" if self.skip_scheduler else self.lr_scheduler,
            lr_cooldown_steps=min(cooldown, max(0, steps - warmup)),
            lr_cooldown_power=self.lr_cooldown_power, lr_cooldown_end=self.lr_cooldown_end,
            on_nonfinite=self.on_nonfinite, max_skipped_steps=self.max_skipped_steps,
            seed=self.seed, backend=self.backend, **(moments._asdict() | given),
        )  # fmt: skip
