"""What a run says: lines on the terminal and in out.log, metrics in results.jsonl, TensorBoard.

The line of a step is open_clip's, so that what reads its logs reads these.
"""

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from fastclip.process_memory import peak_resident_bytes

GIB = 2**30


class RunLog:
    """Writes into a run's directory; on ranks other than the first it does nothing.

    Args:
        directory: of the run, or None to write nothing.
        tensorboard: also write scalars for TensorBoard.

    Raises:
        ModuleNotFoundError: `tensorboard` is asked for and not installed.
    """

    def __init__(self, directory: Path | None, tensorboard: bool = False) -> None:
        self.directory = directory
        self.writer = None
        self.logger = logging.getLogger("fastclip.train")
        self.logger.handlers.clear()
        self.logger.propagate = False
        if directory is None:
            self.logger.addHandler(logging.NullHandler())
            return
        self.logger.setLevel(logging.INFO)
        form = logging.Formatter("%(asctime)s | %(levelname)s | %(message)s", "%Y-%m-%d,%H:%M:%S")
        for handler in (
            logging.StreamHandler(sys.stdout),
            logging.FileHandler(directory / "out.log"),
        ):
            handler.setFormatter(form)
            self.logger.addHandler(handler)
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(
                    "--report-to tensorboard needs it: pip install tensorboard"
                ) from error
            self.writer = SummaryWriter(str(directory / "tensorboard"))

    def say(self, text: str) -> None:
        self.logger.info(text)

    def warn(self, text: str) -> None:
        self.logger.warning(text)

    def parameters(self, values: Mapping[str, object]) -> None:
        """Write params.txt, one `name: value` per line."""
        if self.directory is not None:
            lines = [f"{name}: {value}\n" for name, value in sorted(values.items())]
            (self.directory / "params.txt").write_text("".join(lines), encoding="utf-8")

    def result(self, values: Mapping[str, object]) -> None:
        """Append a line to results.jsonl."""
        if self.directory is not None:
            with open(self.directory / "results.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(dict(values)) + "\n")

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{prefix}/{name}", value, step)

    def close(self) -> None:
        for handler in list(self.logger.handlers):
            handler.close()
            self.logger.removeHandler(handler)
        if self.writer is not None:
            self.writer.close()


def step_line(
    epoch: int,
    num_seen: int,
    num_samples: int,
    data_seconds: float,
    batch_seconds: float,
    global_batch_size: int,
    world_size: int,
    learning_rate: float,
    logit_scale: float,
    loss: float,
    mean_loss: float,
    device: torch.device,
) -> str:
    """open_clip's line of a step, and the peak memory."""
    width = len(str(num_samples))
    rate = global_batch_size / batch_seconds
    return (
        f"Train Epoch: {epoch} [{num_seen:>{width}}/{num_samples} "
        f"({100 * num_seen / num_samples:.0f}%)] "
        f"Data (t): {data_seconds:.3f} Batch (t): {batch_seconds:.3f}, {rate:#g}/s, "
        f"{rate / world_size:#g}/s/gpu LR: {learning_rate:5f} Logit Scale: {logit_scale:.3f} "
        f"Contrastive_loss: {loss:#.5g} ({mean_loss:#.5g}) Loss: {loss:#.5g} ({mean_loss:#.5g}) "
        f"Peak memory: {peak_bytes(device) / GIB:.2f} GiB"
    )


def peak_bytes(device: torch.device) -> int:
    """Of the GPU, or of the process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()
