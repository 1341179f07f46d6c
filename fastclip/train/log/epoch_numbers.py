"""What results.jsonl says of the training of an epoch; checkpoints keep it, so that it is whole."""

from collections.abc import Mapping
from typing import Any

from fastclip.train.log.loss_means import LossMeans
from fastclip.train.log.train_curve import TrainCurve


class EpochNumbers:
    """The means and the curve of an epoch.

    Attributes:
        means: of all steps so far.
        curve: of those that were logged.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin an epoch."""
        self.means, self.curve = LossMeans(), TrainCurve()
        self._is_whole = True

    def begin_within(self) -> None:
        """Begin with the rest of an epoch, whose means are then not those of the epoch."""
        self.begin()
        self._is_whole = False

    def of_epoch(self) -> dict[str, object]:
        """What a line of results.jsonl has of them, by name: no means of a part of an epoch."""
        means = self.means.of_epoch() if self._is_whole else {}
        return {**self.curve.of_epoch(), **means}

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {"means": self.means.state_dict(), "curve": self.curve.state_dict(),
                "is_whole": self._is_whole}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.means.load_state_dict(state["means"])
        self.curve.load_state_dict(state["curve"])
        self._is_whole = state.get("is_whole", True)
