"""The demo's training: the same run as `fastclip train` makes; the demo keeps its numbers."""

from collections.abc import Callable
from pathlib import Path

import torch

from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.demo.settings import DemoSettings
from fastclip.distributed.processes import Processes
from fastclip.models.clip import CLIP
from fastclip.process_memory import peak_resident_bytes
from fastclip.progress import is_watched, progress_bar
from fastclip.train.log.run_log import RunLog
from fastclip.train.log.step_report import StepReport
from fastclip.train.run.run import Run


class Training:
    """Trains the model of the digits in a directory of its own.

    Attributes:
        model: the model, in training mode, with random weights until `train` is called.
        tokenizer: the tokenizer of its captions.
        losses: one per finished step, in nats, each before the step.
        seconds: the time that the steps took, including their data.
        peak_bytes: the peak memory of the process, once training has ended.

    Args:
        directory: the run's directory, empty; checkpoints are in a folder inside it.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        OSError: the directory cannot be written to.
    """

    def __init__(self, settings: DemoSettings, directory: Path) -> None:
        torch.set_num_threads(settings.threads)
        self._steps = settings.steps
        self._directory, self._log = directory, _Numbers()
        self._run = Run(settings.run_config(), Processes("cpu"), directory, self._log)
        self.model: CLIP = self._run.model
        self.tokenizer: WordTokenizer = self._run.run_model.tokenizer
        self.peak_bytes = 0

    @property
    def losses(self) -> list[float]:
        return [report.loss for report in self._log.reports]

    @property
    def seconds(self) -> float:
        return sum(report.seconds for report in self._log.reports)

    def train(self) -> Path:
        """Train to the end with a progress bar, and return the path of the last checkpoint.

        Raises:
            FloatingPointError: a loss or a gradient is not finite; the step is not taken.
            SystemExit: a signal ended the run; the status is a shell's status for that signal.
        """
        # On a terminal the run shows a bar itself.
        with progress_bar(self._steps, shown=not is_watched()) as self._log.advance:
            status = self._run.train()
        if status != 0:
            raise SystemExit(status)
        self.peak_bytes = peak_resident_bytes()
        return self._directory / "checkpoints" / "epoch_1.pt"


class _Numbers(RunLog):
    """Keeps the numbers of every step; writes nothing."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reports: list[StepReport] = []
        self.advance: Callable[[int, str], None] = lambda more, text: None

    def step(self, report: StepReport) -> None:
        self.reports.append(report)
        self.advance(1, f"loss {report.loss:.3f}")
