"""What the loss of an epoch has been on average, and each of its terms."""

import math
from collections.abc import Mapping


class LossMeans:
    """Means over those steps of an epoch, since the run was started, whose loss is finite."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._terms: dict[str, list[float]] = {}

    def take(self, loss: float, terms: Mapping[str, float]) -> None:
        """Take what a step found; see `StepOutcome`."""
        if not math.isfinite(loss):
            return
        self._losses.append(loss)
        for name, term in terms.items():
            self._terms.setdefault(name, []).append(term)

    @property
    def loss(self) -> float:
        """Nan if there is no such step."""
        return _mean(self._losses) if self._losses else math.nan

    @property
    def terms(self) -> dict[str, float]:
        """By name; empty if the loss has no terms, or there is no such step."""
        return {name: _mean(terms) for name, terms in self._terms.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
