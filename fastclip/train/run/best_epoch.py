"""Which epoch of a run is the best, whose checkpoint stays as epoch_best.pt; and which others stay.

It is known by results.jsonl alone, whose lines have the metrics of all epochs, so that a run that
was killed anywhere finds it again. Of equals the first is the best.
"""

from collections.abc import Mapping
from statistics import fmean

from fastclip.evaluate.metrics import RECALLS, TOPS, recall_names
from fastclip.models.checkpoints.run_files import BEST_NAME
from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.log.run_log import RunLog
from fastclip.train.run.evaluation_data import EvaluationData
from fastclip.train.settings.run_config import RunConfig

DIRECTIONS = ("image_to_text", "text_to_image")


class BestEpoch:
    """Names the checkpoint of the best epoch, and removes what `--keep-checkpoints` does not keep.

    Only the rank that writes calls its methods.

    Args:
        data: on which the run is evaluated.
        checkpoints, log: of the run.

    Attributes:
        metrics: whose mean is the score of an epoch; none if nothing is evaluated.

    Raises:
        ValueError: `best_metric` names nothing that the run is evaluated by, or what is better the
            smaller it is.
    """

    def __init__(
        self, config: RunConfig, data: EvaluationData, checkpoints: RunCheckpoints, log: RunLog
    ) -> None:
        self._keep, self._checkpoints, self._log = config.keep_checkpoints, checkpoints, log
        has_pairs = data.validation is not None and config.val_frequency > 0
        tasks = [task.name for task in data.tasks]
        self.metrics = _metrics(config.best_metric, has_pairs, tasks)

    def take(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Take what an evaluation after an epoch found, before its line is in results.jsonl.

        Raises:
            CheckpointNotWritten: the disk refuses.
        """
        score, earlier = self._score(metrics), self._scores()
        if score is not None and score > max(earlier.values(), default=float("-inf")):
            self._name(progress, score)
        if self._keep is not None:
            removed = self._checkpoints.store.prune_epochs(self._keep, progress.epoch)
            if removed:
                self._log.say(
                    f"--keep-checkpoints {self._keep}: {', '.join(sorted(removed))} removed"
                )

    def restore(self) -> None:
        """Name the best epoch of those that a resumed run has done, if its name is not there."""
        store, scores = self._checkpoints.store, self._scores()
        if not scores or (store.directory / BEST_NAME).exists():
            return
        best = max(scores, key=lambda progress: (scores[progress], -progress.epoch))
        if not self._name(best, scores[best]):
            self._log.warn(
                f"epoch {best.epoch} has been the best so far, and its checkpoint is not there"
            )

    def _name(self, progress: Progress, score: float) -> bool:
        path = self._checkpoints.name_best(progress)
        if path is not None:
            self._log.say(
                f"epoch {progress.epoch} is the best so far by {' and '.join(self.metrics)} "
                f"({score:.4f}): {path}"
            )
        return path is not None

    def _score(self, metrics: Mapping[str, object]) -> float | None:
        values = [metrics.get(name) for name in self.metrics]
        are_numbers = values and all(isinstance(value, int | float) for value in values)
        return fmean(values) if are_numbers else None

    def _scores(self) -> dict[Progress, float]:
        """Of all epochs in results.jsonl that have one."""
        found = {
            Progress(row["epoch"], row["global_step"]): self._score(row)
            for row in self._log.results_of_epochs()
            if isinstance(row.get("global_step"), int)
        }
        return {progress: score for progress, score in found.items() if score is not None}


def _metrics(asked: str | None, has_pairs: bool, tasks: list[str]) -> tuple[str, ...]:
    recalls = {k: [recall_names(d, k)[1] for d in DIRECTIONS] for k in RECALLS}
    known = [name for k in RECALLS for name in recalls[k]] if has_pairs else []
    known += [f"{task}-top{k}" for task in tasks for k in TOPS]
    if asked is not None:
        if asked not in known:
            raise ValueError(
                f"best_metric must be one of {', '.join(known)}, got {asked!r}"
                if known
                else f"best_metric must be left out where nothing is evaluated, got {asked!r}: "
                "give --val-data or --zeroshot-data"
            )
        return (asked,)
    if has_pairs:
        return tuple(recalls[min(RECALLS)])
    return (f"{tasks[0]}-top{min(TOPS)}",) if tasks else ()
