"""Finds the best epoch of a run, keeps its checkpoint as epoch_best.pt, and removes old ones.

The best epoch follows from results.jsonl alone, whose lines have the metrics of all epochs and the
data on which they were evaluated. So a run that was killed anywhere finds the best epoch again, by
the metric and the data that it is given now. Of equal epochs the first is the best.
"""

from collections.abc import Mapping
from statistics import fmean

from fastclip.data.sources.source import Contents
from fastclip.evaluate.metrics import RECALLS, TOPS, recall_names
from fastclip.models.checkpoints.run_files import BEST_NAME
from fastclip.train.checkpoints.contents import VALIDATION, mark_of
from fastclip.train.checkpoints.file import epoch_in
from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.evaluation_data import EvaluationData
from fastclip.train.settings.run_config import RunConfig

DIRECTIONS = ("image_to_text", "text_to_image")
EVALUATED_ON = "evaluated_on"  # in a line of results.jsonl: the marks of what was evaluated


class BestEpoch:
    """Names the checkpoint of the best epoch, and removes those that `--keep-checkpoints` drops.

    Only the rank that writes calls its methods.

    Args:
        data: the data that the run is evaluated on.
        checkpoints, log: of the run.
        contents: of the evaluated data, by subject, see `checkpoints/contents.py`.

    Attributes:
        metrics: the metrics whose mean is the score of an epoch; none if nothing is evaluated.
        marks: of `contents`, by subject. An epoch whose line has other marks, or none as in earlier
            versions, has no score, because its numbers cannot be compared.

    Raises:
        ValueError: `best_metric` is not a metric of this run whose larger values are better.
    """

    def __init__(
        self,
        config: RunConfig,
        data: EvaluationData,
        checkpoints: RunCheckpoints,
        log: RunLog,
        contents: Mapping[str, Contents],
    ) -> None:
        self._keep, self._checkpoints, self._log = config.keep_checkpoints, checkpoints, log
        has_pairs = data.validation is not None and config.val_frequency > 0
        tasks = [task.name for task in data.tasks]
        self.metrics = _metrics(config.best_metric, has_pairs, tasks)
        subjects = [*([VALIDATION] if has_pairs else []), *tasks]
        self.marks = {name: mark_of(contents[name]) for name in subjects if name in contents}
        self._subjects = {_subject_of(metric, tasks) for metric in self.metrics}

    def take(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Take the metrics of an evaluation after an epoch, before they are in results.jsonl.

        Raises:
            CheckpointNotWritten: the checkpoint cannot be written.
        """
        score, earlier = self._score(metrics), self._scores()
        if score is not None and score > max(earlier.values(), default=float("-inf")):
            self._name(progress, score)
        if self._keep is not None:
            removed = self._checkpoints.store.prune_epochs(self._keep, progress.epoch)
            if removed:
                self._log.say(
                    f"--keep-checkpoints {self._keep}: removed {', '.join(sorted(removed))}"
                )

    def restore(self) -> None:
        """Let epoch_best.pt be the best epoch of a resumed run, by the metric that is given now.

        If the checkpoint of that epoch is gone, or no epoch has a score on the data that is given
        now, an epoch_best.pt of another epoch is set aside.
        """
        if not self.metrics:
            return
        scores, path = self._scores(), self._checkpoints.store.directory / BEST_NAME
        self._warn_of_what_has_no_score()
        best = max(scores, key=lambda progress: (scores[progress], -progress.epoch), default=None)
        named = epoch_in(path) if path.exists() else None
        if best is not None and (named == best.epoch or self._name(best, scores[best])):
            return
        if best is not None:
            self._log.warn(
                f"epoch {best.epoch} has been the best so far by {self._by}, but its checkpoint is "
                f"gone, so that there is no {BEST_NAME} of this epoch"
            )
        # An epoch without a line was interrupted before the line, and is evaluated next.
        if path.exists() and (named is None or self._log.has_epoch(named)):
            folder = self._checkpoints.store.set_aside_best()
            self._log.warn(
                f"{BEST_NAME} is of epoch {named}, which is not the best by {self._by} on the data "
                f"that is evaluated now: the file is set aside in {folder}"
            )

    @property
    def _by(self) -> str:
        return " and ".join(self.metrics)

    def _warn_of_what_has_no_score(self) -> None:
        num = sum(
            self._score(row) is not None and not self._is_of_this_data(row)
            for row in self._log.results_of_epochs()
        )
        if num:
            self._log.warn(
                f"epochs of results.jsonl that do not count for {BEST_NAME}: {num}; they were "
                "evaluated on other data, or by a version that did not store on which data"
            )

    def _is_of_this_data(self, row: Mapping[str, object]) -> bool:
        marks = row.get(EVALUATED_ON)
        return isinstance(marks, Mapping) and all(
            marks.get(subject) == self.marks.get(subject) for subject in self._subjects
        )

    def _name(self, progress: Progress, score: float) -> bool:
        path = self._checkpoints.name_best(progress)
        if path is not None:
            self._log.say(
                f"epoch {progress.epoch} is the best so far by {self._by} ({score:.4f}): {path}"
            )
        return path is not None

    def _score(self, metrics: Mapping[str, object]) -> float | None:
        values = [metrics.get(name) for name in self.metrics]
        are_numbers = values and all(isinstance(value, int | float) for value in values)
        return fmean(values) if are_numbers else None

    def _scores(self) -> dict[Progress, float]:
        """Return the scores of all epochs in results.jsonl that have one on the current data."""
        found = {
            Progress(row["epoch"], row["global_step"]): self._score(row)
            for row in self._log.results_of_epochs()
            if isinstance(row.get("global_step"), int) and self._is_of_this_data(row)
        }
        return {progress: score for progress, score in found.items() if score is not None}


def _subject_of(metric: str, tasks: list[str]) -> str:
    name, is_top, _ = metric.rpartition("-top")
    return name if is_top and name in tasks else VALIDATION


def _metrics(asked: str | None, has_pairs: bool, tasks: list[str]) -> tuple[str, ...]:
    recalls = {k: [recall_names(d, k)[1] for d in DIRECTIONS] for k in RECALLS}
    known = [name for k in RECALLS for name in recalls[k]] if has_pairs else []
    known += [f"{task}-top{k}" for task in tasks for k in TOPS]
    if asked is not None:
        if asked not in known:
            raise ValueError(
                f"best_metric must be one of {', '.join(known)}, got {asked!r}"
                if known
                else f"best_metric must be left out if nothing is evaluated, got {asked!r}: give "
                "--val-data or --zeroshot-data, with a frequency other than 0"
            )
        return (asked,)
    if has_pairs:
        return tuple(recalls[min(RECALLS)])
    return (f"{tasks[0]}-top{min(TOPS)}",) if tasks else ()
