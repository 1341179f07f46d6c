"""The line of the log about a step, in open_clip's format, which tools for its logs can read."""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from fastclip.process_memory import peak_resident_bytes

GIB = 2**30
LEAST_PLAIN_RATE = 1e-4


@dataclass(frozen=True)
class StepReport:
    """Attributes:
    epoch: from 0.
    global_step: number of finished steps.
    num_seen, num_samples: of the epoch, over all ranks.
    data_seconds: the part of `seconds`, the time of the whole step, that it waited for data.
    mean_loss: over the steps of the epoch whose loss is finite.
    gradient_norm: before clipping.
    num_left_out: how many steps were left out so far; the line has the number unless it is 0.
    peak_bytes: the most memory so far, of the GPU or, without one, of the process.
    terms, mean_terms: add up to `loss` and `mean_loss`, by name, such as "distill_loss"; empty if
        the loss has a single term, the contrastive loss.
    counts: numbers of the batch of all ranks, by name, such as "masked_pairs".
    seconds_left: until the last step, at the average pace since the run was started, without
        evaluations; None if it is not known.
    """

    epoch: int
    global_step: int
    num_seen: int
    num_samples: int
    global_batch_size: int
    world_size: int
    data_seconds: float
    seconds: float
    learning_rate: float
    logit_scale: float
    loss: float
    mean_loss: float
    peak_bytes: int
    gradient_norm: float = 0.0
    num_left_out: int = 0
    terms: Mapping[str, float] = field(default_factory=dict)
    mean_terms: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds_left: float | None = None

    @property
    def samples_per_second(self) -> float:
        return self.global_batch_size / self.seconds

    def __str__(self) -> str:
        width = len(str(self.num_samples))
        rate = self.samples_per_second
        left_out = f" Steps left out: {self.num_left_out}" if self.num_left_out else ""
        counts = "".join(
            f" {name.capitalize().replace('_', ' ')}: {count}"
            for name, count in self.counts.items()
        )
        return (
            f"Train Epoch: {self.epoch} [{self.num_seen:>{width}}/{self.num_samples} "
            f"({100 * self.num_seen / self.num_samples:.0f}%)] Data (t): {self.data_seconds:.3f} "
            f"Batch (t): {self.seconds:.3f}, {rate:#g}/s, {rate / self.world_size:#g}/s/gpu "
            f"LR: {_rate(self.learning_rate)} Logit Scale: {self.logit_scale:.3f} "
            f"{self._losses()} Peak memory: {self.peak_bytes / GIB:.2f} GiB{counts}{left_out}"
            f"{self._time_left()}"
        )

    def values(self) -> dict[str, float]:
        """Return the numbers under the names by which open_clip reports them."""
        return {
            **(self.terms or {"contrastive_loss": self.loss}), "loss": self.loss,
            "lr": self.learning_rate, "scale": self.logit_scale,
            "data_time": self.data_seconds, "batch_time": self.seconds,
            "samples_per_second": self.samples_per_second,
            "samples_per_second_per_gpu": self.samples_per_second / self.world_size,
            "grad_norm": self.gradient_norm, "steps_left_out": self.num_left_out,
            **self.counts,
        }  # fmt: skip

    def _time_left(self) -> str:
        if self.seconds_left is None:
            return ""
        return f" ETA: {datetime.timedelta(seconds=round(self.seconds_left))}"

    def _losses(self) -> str:
        """Return a text with every term and the loss, each with its mean."""
        terms = self.terms or {"contrastive_loss": self.loss}
        means = self.mean_terms or {"contrastive_loss": self.mean_loss}
        found = {**terms, "loss": self.loss}
        of_found = {**means, "loss": self.mean_loss}
        return " ".join(
            f"{name.capitalize()}: {value:#.5g} ({of_found.get(name, math.nan):#.5g})"
            for name, value in found.items()
        )


def _rate(rate: float) -> str:
    """Format a learning rate like open_clip, except small ones, which that leaves few digits of."""
    return f"{rate:5f}" if rate == 0 or rate >= LEAST_PLAIN_RATE else f"{rate:.2e}"


def peak_bytes(device: torch.device) -> int:
    """Return the most memory used so far, of the GPU or, without one, of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()
