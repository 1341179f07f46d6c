"""The settings of optimisation: epochs, learning rate, AdamW, and the average of the weights."""

from dataclasses import dataclass

from fastclip.train.settings.setting import Settings, setting
from fastclip.train.settings.step_config import ON_NONFINITE, SCHEDULERS

LONGEST_WARMUP, WARMUP_FRACTION = 10_000, 10  # of the default: at most so many steps, a tenth


@dataclass(frozen=True)
class OptimisationConfig(Settings):
    """The settings of optimisation in epochs; `RunConfig.training` converts them to steps."""

    epochs: int = setting(32, "The number of passes over the training data.", least=1)
    lr: float = setting(5e-4, "The highest learning rate, at which the warm-up ends.")
    beta1: float | None = setting(
        None,
        "AdamW's beta1, the fraction of the mean of gradients that stays at each step. By default "
        "it is 0.9.",
    )
    beta2: float | None = setting(
        None,
        "AdamW's beta2, the fraction of the mean of squared gradients that stays at each step. By "
        "default it is 0.98, and 0.999 for a ResNet.",
    )
    eps: float | None = setting(
        None,
        "AdamW's epsilon, which is added to the denominator of an update. By default it is 1e-6, "
        "and 1e-8 for a ResNet.",
    )
    wd: float = setting(
        0.2, "The weight decay of matrices; gains, biases and the logit scale have no decay."
    )
    warmup: int | None = setting(
        None,
        "The number of steps in which the learning rate rises linearly to --lr. By default it is a "
        "tenth of the steps of the run, but at most 10,000; a resumed run keeps the number that it "
        "began with.",
        least=0,
    )
    lr_scheduler: str = setting(
        "cosine", "The course of the learning rate after the warm-up.", choices=SCHEDULERS
    )
    epochs_cooldown: int | None = setting(
        None,
        "The number of epochs at the end of the run in which --lr-scheduler const-cooldown lowers "
        "the learning rate. It must be given with that scheduler.",
        least=0,
    )
    lr_cooldown_power: float = setting(
        1.0, "The power by which the learning rate falls in the cooldown; with 1 it falls linearly."
    )
    lr_cooldown_end: float = setting(0.0, "The learning rate at the end of the cooldown.")
    skip_scheduler: bool = setting(False, "Keep the learning rate constant, without a warm-up.")
    ema_decay: float | None = setting(
        None,
        "The decay of an average of the weights (EMA), such as 0.9999: the fraction of the average "
        "that stays at each step. The average is float32, is evaluated in place of the weights, "
        "and is saved as epoch_K_ema.pt. By default there is no average; 0 also drops the average "
        "of the checkpoint that a run resumes from.",
    )
    grad_clip_norm: float | None = setting(
        None,
        "The largest norm of the gradient; a longer gradient is scaled down to this norm. By "
        "default there is no limit.",
    )
    on_nonfinite: str = setting(
        "stop",
        "What happens at a step whose loss or gradient is not finite: the run stops, or it skips "
        "the step. A step that overflows float16 under --precision amp is always skipped, and the "
        "loss scale is lowered.",
        choices=ON_NONFINITE,
    )
    max_skipped_steps: int = setting(
        10,
        "The number of steps in a row that --on-nonfinite skip may skip; one more stops the run.",
        least=1,
    )
    seed: int = setting(
        0, "The seed of the initial weights, of the order of the data and of dropout.", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.lr > 0, "lr", "positive")
        cools = self.lr_scheduler != "const-cooldown" or self.epochs_cooldown is not None
        self._require(cools, "epochs_cooldown", "given with lr_scheduler const-cooldown")
        self._require(self.lr_cooldown_power > 0, "lr_cooldown_power", "positive")
        falls = 0 <= self.lr_cooldown_end <= self.lr
        self._require(falls, "lr_cooldown_end", f"between 0 and lr, which is {self.lr}")
        decay = self.ema_decay
        self._require(decay is None or 0 <= decay < 1, "ema_decay", "in [0, 1)")

    def warmup_of(self, steps: int) -> int:
        """Return how many steps the warm-up of a run of `steps` steps has.

        Example:
            >>> OptimisationConfig().warmup_of(120), OptimisationConfig(warmup=50).warmup_of(120)
            (12, 50)
        """
        if self.skip_scheduler:
            return 0
        if self.warmup is None:
            return min(LONGEST_WARMUP, steps // WARMUP_FRACTION)
        return self.warmup
