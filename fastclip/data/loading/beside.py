"""What is stored of samples elsewhere, such as embeddings, and comes with them in batches."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from fastclip.data.sources.source import Place


class Beside(Protocol):
    """Finds what is stored of a sample, in the process that decodes it; picklable.

    Attributes:
        names: of what it finds, among the facts of a batch.
    """

    names: Sequence[str]

    def __call__(self, place: Place) -> tuple[Tensor, ...] | str:
        """Return one tensor for each name, of the same shape for every sample.

        Where nothing can be used the phrase says why, of a small set: such samples are bad, and are
        counted by it.

        Args:
            place: of the sample in its source, see `stretches`.
        """
