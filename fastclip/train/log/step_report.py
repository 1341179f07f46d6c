"""What a run says of a step; its line is open_clip's, so that what reads its logs reads ours."""

from dataclasses import dataclass

import torch

from fastclip.process_memory import peak_resident_bytes

GIB = 2**30


@dataclass(frozen=True)
class StepReport:
    """Attributes:
    epoch: from 0.
    global_step: number of steps that are done.
    num_seen, num_samples: of the epoch, over all ranks.
    data_seconds: of `seconds`, the whole step's, what it waited for data.
    mean_loss: of those steps of the epoch, since the run was started, whose loss is finite.
    gradient_norm: before it is limited.
    num_left_out: steps so far that were not taken, which the line has if there are any.
    peak_bytes: most memory so far, of the GPU or else of the process.
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

    @property
    def samples_per_second(self) -> float:
        return self.global_batch_size / self.seconds

    def __str__(self) -> str:
        width = len(str(self.num_samples))
        rate = self.samples_per_second
        loss = f"{self.loss:#.5g} ({self.mean_loss:#.5g})"
        left_out = f" Steps left out: {self.num_left_out}" if self.num_left_out else ""
        return (
            f"Train Epoch: {self.epoch} [{self.num_seen:>{width}}/{self.num_samples} "
            f"({100 * self.num_seen / self.num_samples:.0f}%)] Data (t): {self.data_seconds:.3f} "
            f"Batch (t): {self.seconds:.3f}, {rate:#g}/s, {rate / self.world_size:#g}/s/gpu "
            f"LR: {self.learning_rate:5f} Logit Scale: {self.logit_scale:.3f} "
            f"Contrastive_loss: {loss} Loss: {loss} Peak memory: {self.peak_bytes / GIB:.2f} GiB"
            f"{left_out}"
        )

    def values(self) -> dict[str, float]:
        """Numbers under the names that open_clip reports them by."""
        return {
            "loss": self.loss, "contrastive_loss": self.loss, "lr": self.learning_rate,
            "scale": self.logit_scale, "data_time": self.data_seconds, "batch_time": self.seconds,
            "samples_per_second": self.samples_per_second,
            "samples_per_second_per_gpu": self.samples_per_second / self.world_size,
            "grad_norm": self.gradient_norm, "steps_left_out": self.num_left_out,
        }  # fmt: skip


def peak_bytes(device: torch.device) -> int:
    """Of the GPU, or of the process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()
