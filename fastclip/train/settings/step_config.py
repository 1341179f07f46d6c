"""The settings of a run's steps, counted in steps and not in epochs: plain values, checked once."""

from dataclasses import asdict, dataclass

from fastclip.train.memory.activation_budget import parse_budget

SCHEDULERS = ("cosine", "const", "const-cooldown")
ON_NONFINITE = ("stop", "skip")


@dataclass(frozen=True)
class StepConfig:
    """Settings of the steps of one run.

    Attributes:
        batch_size: the pairs in one loss; at least 2, because a single pair has no negatives.
        micro_batch_size: the pairs that are encoded at once; None for the whole batch.
        activation_budget: memory for the activations that are kept until the backward pass: bytes,
            "20GiB", "auto" or "unlimited"; see `activation_budget.py`.
        steps: the number of optimiser steps.
        warmup_steps: the steps in which the learning rate rises linearly to `learning_rate`; a
            shorter run does not reach it.
        learning_rate: the peak of the schedule.
        lr_scheduler: "cosine", "const" or "const-cooldown", see `schedule.py`.
        lr_cooldown_steps: the last steps of "const-cooldown", in which the learning rate falls.
        lr_cooldown_power, lr_cooldown_end: the power by which it falls, and its last value.
        weight_decay: of matrices; vectors and scalars have none (see `optimizer.py`).
        beta1, beta2, eps: AdamW's.
        grad_clip_norm: the largest gradient norm, or None for no limit.
        on_nonfinite: "stop" the run where a loss or a gradient is not finite, or "skip" the step.
        max_skipped_steps: how many steps may be skipped in a row.
        seed: of the initial weights and of the order of the data.
        backend: of the loss, see `fastclip.clip_loss`.

    Raises:
        ValueError: a value is out of its range.
    """

    batch_size: int
    steps: int
    warmup_steps: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    grad_clip_norm: float | None = None
    seed: int = 0
    backend: str = "auto"
    lr_scheduler: str = "cosine"
    lr_cooldown_steps: int = 0
    lr_cooldown_power: float = 1.0
    lr_cooldown_end: float = 0.0
    micro_batch_size: int | None = None
    activation_budget: str | float = "unlimited"
    on_nonfinite: str = "stop"
    max_skipped_steps: int = 10

    def __post_init__(self) -> None:
        self._require(self.batch_size >= 2, "batch_size", "at least 2")
        self._require(self.steps >= 1, "steps", "at least 1")
        self._require(self.warmup_steps >= 0, "warmup_steps", "at least 0")
        self._require(self.learning_rate > 0, "learning_rate", "positive")
        self._require(self.weight_decay >= 0, "weight_decay", "at least 0")
        self._require(0 <= self.beta1 < 1, "beta1", "in [0, 1)")
        self._require(0 <= self.beta2 < 1, "beta2", "in [0, 1)")
        self._require(self.eps > 0, "eps", "positive")
        clip = self.grad_clip_norm
        self._require(clip is None or clip > 0, "grad_clip_norm", "positive or None")
        self._require(self.on_nonfinite in ON_NONFINITE, "on_nonfinite", f"one of {ON_NONFINITE}")
        self._require(self.max_skipped_steps >= 1, "max_skipped_steps", "at least 1")
        self._require(0 <= self.seed < 2**63, "seed", "in [0, 2^63)")
        self._require(self.lr_scheduler in SCHEDULERS, "lr_scheduler", f"one of {SCHEDULERS}")
        rest = max(0, self.steps - self.warmup_steps)
        self._require(
            0 <= self.lr_cooldown_steps <= rest, "lr_cooldown_steps", "in [0, steps - warmup_steps]"
        )
        self._require(self.lr_cooldown_power > 0, "lr_cooldown_power", "positive")
        self._require(
            0 <= self.lr_cooldown_end <= self.learning_rate, "lr_cooldown_end",
            "in [0, learning_rate]",
        )  # fmt: skip
        micro = self.micro_batch_size
        self._require(micro is None or micro >= 1, "micro_batch_size", "at least 1 or None")
        if self.activation_budget != "auto":
            parse_budget(self.activation_budget)

    def to_dict(self) -> dict:
        return asdict(self)

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")
