"""The numbers of an epoch's training for results.jsonl; checkpoints keep them between restarts."""

from collections.abc import Mapping
from typing import Any

from fastclip.train.log.loss_means import LossMeans
from fastclip.train.log.train_curve import TrainCurve


class EpochNumbers:
    """The means and the curve of an epoch.

    Attributes:
        means: over all steps of the epoch so far.
        curve: of the steps that were logged.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin an epoch."""
        self.means, self.curve = LossMeans(), TrainCurve()
        self._is_whole = True

    def begin_within(self) -> None:
        """Begin in the middle of an epoch, so that there are no means of the whole epoch."""
        self.begin()
        self._is_whole = False

    def of_epoch(self) -> dict[str, object]:
        """Return the fields of a line in results.jsonl; a part of an epoch has no means."""
        means = self.means.of_epoch() if self._is_whole else {}
        return {**self.curve.of_epoch(), **means}

    def state_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {"means": self.means.state_dict(), "curve": self.curve.state_dict(),
                "is_whole": self._is_whole}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the numbers in a checkpoint."""
        self.means.load_state_dict(state["means"])
        self.curve.load_state_dict(state["curve"])
        self._is_whole = state.get("is_whole", True)
