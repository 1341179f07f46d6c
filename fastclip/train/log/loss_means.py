"""The means of the loss, and of each of its terms, over an epoch."""

import math
from collections.abc import Mapping
from typing import Any

LOSS = ""  # the name of the loss itself among its terms


class LossMeans:
    """Means over the steps of an epoch whose loss is finite."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def take(self, loss: float, terms: Mapping[str, float]) -> None:
        """Add the loss of a step and its terms; see `StepOutcome`."""
        if not math.isfinite(loss):
            return
        for name, value in {LOSS: loss, **terms}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    @property
    def loss(self) -> float:
        """The mean loss; nan if there is no such step."""
        return self._means().get(LOSS, math.nan)

    @property
    def terms(self) -> dict[str, float]:
        """The mean of each term by name; empty without terms, or if there is no such step."""
        return {name: mean for name, mean in self._means().items() if name != LOSS}

    def of_epoch(self) -> dict[str, object]:
        """Return the fields for results.jsonl: "train_loss", and "train_losses" if it has terms."""
        found: dict[str, object] = {"train_loss": self.loss} if self._counts else {}
        return found | ({"train_losses": terms} if (terms := self.terms) else {})

    def state_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the sums in a checkpoint."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def _means(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}
