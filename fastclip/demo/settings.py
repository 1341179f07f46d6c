"""The settings of the demo, and the run that it makes from them."""

from dataclasses import dataclass

from fastclip.data.digits.grids import MAX_PAIRS
from fastclip.models import digits
from fastclip.train.settings.run_config import RunConfig

WARMUP_STEPS = 20


@dataclass(frozen=True)
class DemoSettings:
    """Settings of a demo.

    Attributes:
        batch_size: pairs in one loss, in [2, 65536].
        steps: optimiser steps, at least 1.
        seed: the seed of the initial weights, in [0, 2^63).
        backend: the backend of the loss, see `fastclip.clip_loss`.
        threads: CPU threads, at least 1.

    Raises:
        ValueError: a value is out of its range.
    """

    batch_size: int
    steps: int
    seed: int
    backend: str
    threads: int

    def __post_init__(self) -> None:
        self._require(self.batch_size >= 2, "batch_size", "at least 2")
        self._require(self.batch_size <= MAX_PAIRS, "batch_size", f"at most {MAX_PAIRS}")
        self._require(self.steps >= 1, "steps", "at least 1")
        self._require(0 <= self.seed < 2**63, "seed", "in [0, 2^63)")
        self._require(self.threads >= 1, "threads", "at least 1")

    def run_config(self) -> RunConfig:
        """Return the settings of a run of one epoch, whose every batch is a new draw of digits."""
        return RunConfig(
            train_data=f"digits:{self.batch_size}", dataset_type="builtin",
            train_num_samples=self.steps * self.batch_size, shuffle_buffer=1, workers=0,
            model=digits.NAME, batch_size=self.batch_size, activation_budget="unlimited",
            backend=self.backend, precision="fp32", device="cpu",
            epochs=1, lr=1.5e-3, wd=0.1, warmup=min(WARMUP_STEPS, self.steps), seed=self.seed,
            log_every_n_steps=1, name="demo",
        )  # fmt: skip

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")
