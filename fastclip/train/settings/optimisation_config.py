"""The settings of optimisation: how long, at which rate, and what becomes of the weights."""

from dataclasses import dataclass

from fastclip.train.settings.setting import Settings, setting
from fastclip.train.settings.step_config import ON_NONFINITE, SCHEDULERS

LONGEST_WARMUP, WARMUP_FRACTION = 10_000, 10  # steps by default at most, and one in so many


@dataclass(frozen=True)
class OptimisationConfig(Settings):
    """How a run steps its weights, in epochs; `RunConfig.training` says it in steps."""

    epochs: int = setting(32, "The number of passes over the training data.", least=1)
    lr: float = setting(5e-4, "The highest learning rate, at which the warm-up ends.")
    beta1: float | None = setting(
        None,
        "The share of AdamW's mean of gradients that stays at each step. By default it is 0.9.",
    )
    beta2: float | None = setting(
        None,
        "The share of AdamW's mean of squared gradients that stays at each step. By default it is "
        "0.98, and 0.999 for a ResNet.",
    )
    eps: float | None = setting(
        None,
        "The number that AdamW adds to what it divides by. By default it is 1e-6, and 1e-8 for a "
        "ResNet.",
    )
    wd: float = setting(0.2, "The weight decay of matrices; gains, biases and the scale have none.")
    warmup: int | None = setting(
        None,
        "The number of steps in which the learning rate rises linearly to --lr. By default it is a "
        "tenth of the steps of the run, and at most 10,000; a run that is resumed keeps what it "
        "began with.",
        least=0,
    )
    lr_scheduler: str = setting(
        "cosine", "The course of the learning rate after the warm-up.", choices=SCHEDULERS
    )
    epochs_cooldown: int | None = setting(
        None,
        "The number of last epochs in which the learning rate of const-cooldown falls. It must be "
        "given with that scheduler.",
        least=0,
    )
    lr_cooldown_power: float = setting(
        1.0, "The power by which the learning rate falls in the cooldown; 1 is a straight line."
    )
    lr_cooldown_end: float = setting(0.0, "The learning rate at the end of the cooldown.")
    skip_scheduler: bool = setting(
        False, "Train all steps at one learning rate, without a warm-up."
    )
    ema_decay: float | None = setting(
        None,
        "The share of an average of the weights that stays at each step, such as 0.9999. The "
        "average is float32, is evaluated, and is kept as epoch_K_ema.pt. By default there is "
        "none; 0 also drops that of a checkpoint.",
    )
    grad_clip_norm: float | None = setting(
        None,
        "The largest norm of the gradient; a longer gradient is scaled down to it. By default "
        "there is no limit.",
    )
    on_nonfinite: str = setting(
        "stop",
        "What happens where a loss or a gradient is not finite: the run stops, or the step is "
        "skipped. An overflow that --precision amp scales away is always skipped.",
        choices=ON_NONFINITE,
    )
    max_skipped_steps: int = setting(
        10,
        "The number of steps in a row that --on-nonfinite skip leaves out; one more stops the run.",
        least=1,
    )
    seed: int = setting(
        0, "The seed of the first weights, of the order of the data and of dropout.", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.lr > 0, "lr", "positive")
        cools = self.lr_scheduler != "const-cooldown" or self.epochs_cooldown is not None
        self._require(cools, "epochs_cooldown", "given with const-cooldown")
        self._require(self.lr_cooldown_power > 0, "lr_cooldown_power", "positive")
        falls = 0 <= self.lr_cooldown_end <= self.lr
        self._require(falls, "lr_cooldown_end", f"between 0 and lr, which is {self.lr}")
        decay = self.ema_decay
        self._require(decay is None or 0 <= decay < 1, "ema_decay", "in [0, 1)")

    def warmup_of(self, steps: int) -> int:
        """The steps of the warm-up of a run of so many steps.

        Example:
            >>> OptimisationConfig().warmup_of(120), OptimisationConfig(warmup=50).warmup_of(120)
            (12, 50)
        """
        if self.skip_scheduler:
            return 0
        if self.warmup is None:
            return min(LONGEST_WARMUP, steps // WARMUP_FRACTION)
        return self.warmup
