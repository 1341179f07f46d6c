"""The log of a run: lines on the terminal and in out.log, numbers in results.jsonl."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastclip.atomic_file import writing
from fastclip.printable import printable
from fastclip.progress import LineHandler
from fastclip.train.log.reporters import Reporter
from fastclip.train.log.results_file import FILE_NAME, ResultsFile
from fastclip.train.log.step_report import StepReport


class _LogFile(logging.FileHandler):
    """A log file that goes on when a full disk refuses lines, and says once that lines are lost."""

    def __init__(self, path: Path) -> None:
        with writing(path):
            super().__init__(path, encoding="utf-8", errors="surrogateescape")
        self.has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.has_failed:
            self.has_failed = True
            error = sys.exc_info()[1]
            print(f"{self.baseFilename} will lack lines from now on: {error}", file=sys.stderr)

    def close(self) -> None:
        try:
            super().close()
        except OSError:  # the lines that are not written yet are refused once more
            self.stream = None


class RunLog:
    """Writes into a run's directory; on ranks other than the first it does nothing.

    Args:
        directory: of the run, or None to write nothing.
        reporters: also receive all numbers.
    """

    def __init__(self, directory: Path | None, reporters: Sequence[Reporter] = ()) -> None:
        self.directory = directory
        self.reporters = list(reporters)
        self.results: ResultsFile | None = None
        self.logger = logging.getLogger("fastclip.train")
        self.logger.handlers.clear()
        self.logger.propagate = False
        if directory is None:
            self.logger.addHandler(logging.NullHandler())
            return
        self.logger.setLevel(logging.INFO)
        form = logging.Formatter("%(asctime)s | %(levelname)s | %(message)s", "%Y-%m-%d,%H:%M:%S")
        for handler in (LineHandler(), _LogFile(directory / "out.log")):
            handler.setFormatter(form)
            self.logger.addHandler(handler)
        try:
            self.results = ResultsFile(directory / FILE_NAME, self.warn)
        except OSError:
            self.close()
            raise

    def say(self, text: str) -> None:
        """Write a line; characters that cannot be printed are written as escapes."""
        self.logger.info(printable(text))

    def warn(self, text: str) -> None:
        """Write a line that is marked as a warning, as `say` does."""
        self.logger.warning(printable(text))

    def parameters(self, values: Mapping[str, object]) -> None:
        """Write params.txt, one `name: value` per line."""
        if self.directory is not None:
            lines = [f"{name}: {printable(str(value))}\n" for name, value in sorted(values.items())]
            path = self.directory / "params.txt"
            with writing(path):
                path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")

    def step(self, report: StepReport) -> None:
        """Write the line of a step, and report its numbers."""
        self.say(str(report))
        for reporter in self.reporters:
            reporter.step(report.values(), report.global_step)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Report numbers of a step that its `StepReport` does not have.

        Args:
            step: number of finished steps.
        """
        for reporter in self.reporters:
            reporter.step(values, step)

    def epoch(self, values: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Append a line to results.jsonl, and report the metrics of an evaluation.

        Args:
            values: of the epoch, with "epoch" and "global_step" among them.
        """
        if self.results is None:
            return
        self.results.append({**values, **metrics})
        if metrics:
            for reporter in self.reporters:
                reporter.evaluation(metrics, values["epoch"], values["global_step"])

    def has_epoch(self, epoch: int) -> bool:
        """Return whether results.jsonl has a line of this epoch."""
        return self.results is not None and self.results.has_epoch(epoch)

    def results_of_epochs(self) -> list[dict[str, Any]]:
        """Return the lines of results.jsonl."""
        return [] if self.results is None else self.results.rows()

    @property
    def has_epochs(self) -> bool:
        """True if results.jsonl has a line of any epoch."""
        return self.results is not None and bool(self.results.epochs)

    def keep_epochs(self, last: int) -> None:
        """Set aside the lines of epochs after `last`, the last finished one."""
        if self.results is not None:
            self.results.keep_until(last)

    def close(self) -> None:
        for handler in list(self.logger.handlers):
            handler.close()
            self.logger.removeHandler(handler)
        for reporter in self.reporters:
            reporter.close()
