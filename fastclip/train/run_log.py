"""What a run says: lines on the terminal and in out.log, metrics in results.jsonl and elsewhere.

The line of a step is open_clip's, so that what reads its logs reads these.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fastclip.process_memory import peak_resident_bytes
from fastclip.train.progress import LineHandler
from fastclip.train.reporters import Reporter

GIB = 2**30


class RunLog:
    """Writes into a run's directory; on ranks other than the first it does nothing.

    Args:
        directory: of the run, or None to write nothing.
        reporters: are told of every line of numbers too.
    """

    def __init__(self, directory: Path | None, reporters: Sequence[Reporter] = ()) -> None:
        self.directory = directory
        self.reporters = list(reporters)
        self.logger = logging.getLogger("fastclip.train")
        self.logger.handlers.clear()
        self.logger.propagate = False
        if directory is None:
            self.logger.addHandler(logging.NullHandler())
            return
        self.logger.setLevel(logging.INFO)
        form = logging.Formatter("%(asctime)s | %(levelname)s | %(message)s", "%Y-%m-%d,%H:%M:%S")
        for handler in (LineHandler(), logging.FileHandler(directory / "out.log")):
            handler.setFormatter(form)
            self.logger.addHandler(handler)

    def say(self, text: str) -> None:
        self.logger.info(text)

    def warn(self, text: str) -> None:
        self.logger.warning(text)

    def parameters(self, values: Mapping[str, object]) -> None:
        """Write params.txt, one `name: value` per line."""
        if self.directory is not None:
            lines = [f"{name}: {value}\n" for name, value in sorted(values.items())]
            (self.directory / "params.txt").write_text("".join(lines), encoding="utf-8")

    def step(self, values: Mapping[str, float], step: int) -> None:
        """Report numbers of an optimiser step."""
        for reporter in self.reporters:
            reporter.step(values, step)

    def epoch(self, values: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Append a line to results.jsonl, and report the metrics of an evaluation.

        Args:
            values: of the epoch, "epoch" and "global_step" among them.
        """
        if self.directory is None:
            return
        with open(self.directory / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({**values, **metrics}) + "\n")
        if metrics:
            for reporter in self.reporters:
                reporter.evaluation(metrics, values["epoch"], values["global_step"])

    def has_epoch(self, epoch: int) -> bool:
        """Is there a line of this epoch in results.jsonl?"""
        path = None if self.directory is None else self.directory / "results.jsonl"
        if path is None or not path.is_file():
            return False
        lines = path.read_text(encoding="utf-8").splitlines()
        return any(json.loads(line)["epoch"] == epoch for line in lines)

    def close(self) -> None:
        for handler in list(self.logger.handlers):
            handler.close()
            self.logger.removeHandler(handler)
        for reporter in self.reporters:
            reporter.close()


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
