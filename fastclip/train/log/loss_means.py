"""What the loss of an epoch has been on average, and each of its terms."""

import math
from collections.abc import Mapping
from typing import Any

LOSS = ""  # the name of the loss itself among its terms


class LossMeans:
    """Means over those steps of an epoch whose loss is finite."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def take(self, loss: float, terms: Mapping[str, float]) -> None:
        """Take what a step found; see `StepOutcome`."""
        if not math.isfinite(loss):
            return
        for name, value in {LOSS: loss, **terms}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    @property
    def loss(self) -> float:
        """Nan if there is no such step."""
        return self._means().get(LOSS, math.nan)

    @property
    def terms(self) -> dict[str, float]:
        """By name; empty if the loss has no terms, or there is no such step."""
        return {name: mean for name, mean in self._means().items() if name != LOSS}

    def of_epoch(self) -> dict[str, object]:
        """For the results of an epoch: "train_loss", and "train_losses" if it has terms."""
        found: dict[str, object] = {"train_loss": self.loss} if self._counts else {}
        return found | ({"train_losses": terms} if (terms := self.terms) else {})

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def _means(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}
