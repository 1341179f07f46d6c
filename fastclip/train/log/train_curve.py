"""The loss, learning rate and scale of the logged steps of an epoch, for results.jsonl."""

import math
from collections.abc import Mapping
from typing import Any

from fastclip.train.log.step_report import StepReport

NAMES = ("step", "loss", "lr", "logit_scale")
MOST_POINTS = 1000  # of an epoch; beyond that, every second point is dropped


class TrainCurve:
    """The logged steps of an epoch; in a long epoch they are thinned evenly."""

    def __init__(self) -> None:
        self._points: list[tuple[int, float, float, float]] = []
        self._every, self._num_seen = 1, 0

    def take(self, report: StepReport) -> None:
        """Add the numbers of a logged step."""
        if self._num_seen % self._every == 0:
            self._points.append(
                (report.global_step, report.loss, report.learning_rate, report.logit_scale)
            )
        self._num_seen += 1
        if len(self._points) > MOST_POINTS:
            self._points, self._every = self._points[::2], 2 * self._every

    def of_epoch(self) -> dict[str, dict[str, list[float]]]:
        """Return the field "train_curve" for results.jsonl, or nothing if no step was logged.

        The field has lists of equal length by name: "step" from 1, "loss", "lr" and "logit_scale".
        A loss that is not finite is None, because JSON has no such number.
        """
        if not self._points:
            return {}
        columns = zip(*self._points, strict=True)
        return {"train_curve": {
            name: [value if math.isfinite(value) else None for value in column]
            for name, column in zip(NAMES, columns, strict=True)
        }}  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        points = [list(point) for point in self._points]
        return {"points": points, "every": self._every, "num_seen": self._num_seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the points in a checkpoint."""
        self._points = [tuple(point) for point in state["points"]]
        self._every, self._num_seen = state["every"], state["num_seen"]
