"""Stored values of samples, such as embeddings, that are added to the batches of a loader."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from fastclip.data.sources.source import Place


class Beside(Protocol):
    """Finds the stored values of a sample, in the process that decodes the sample; picklable.

    Attributes:
        names: the names of the values it finds, as keys of the facts of a batch.
    """

    names: Sequence[str]

    def __call__(self, place: Place) -> tuple[Tensor, ...] | str:
        """Return one tensor for each name, of the same shape for every sample.

        If nothing usable is stored for the sample, returns the reason instead: one of a small set
        of phrases. The sample is then bad and is counted under that reason.

        Args:
            place: the place of the sample in its source; see `stretches`.
        """
