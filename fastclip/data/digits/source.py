"""The images of digits that come with fastclip, as a source; see `fastclip.data.digits.grids`."""

import torch

from fastclip.data.digits.grids import CELLS, DigitGrids, place_alone
from fastclip.data.digits.images import DIGIT_WORDS, load_digits, split_by_image
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Contents, IndexedSource

NUM_PAIRS, NUM_HELD_OUT_PAIRS = 16_384, 1024


class DigitSource(IndexedSource):
    """A fixed draw of digit grids, (1, 16, 24) uint8, no two with the same caption.

    Args:
        held_out: the test pairs: digits and arrangements that the others never show.
        num_samples: by default 16,384, or 1,024 of the held-out ones.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: there are not so many pairs.
    """

    def __init__(
        self, held_out: bool = False, num_samples: int | None = None, seed: int = 0
    ) -> None:
        train_digits, test_digits = split_by_image(load_digits())
        grids = DigitGrids(test_digits if held_out else train_digits, held_out)
        if num_samples is None:
            num_samples = NUM_HELD_OUT_PAIRS if held_out else NUM_PAIRS
        self._name = "digits-held-out" if held_out else "digits"
        self._seed = seed
        self._pairs = grids.draw(num_samples, torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self._pairs.captions)

    def contents(self) -> Contents:
        return [(self._name, f"{len(self):,} pairs, drawn with seed {self._seed}")]

    def load(self, index: int) -> Sample:
        return Sample(
            f"{self._name}/{index}", self._pairs.images[index], self._pairs.captions[index]
        )


class LoneDigitSource(IndexedSource):
    """Every digit of the test alone in a cell, (1, 16, 24) uint8; its caption is its word.

    Attributes:
        classes: the words, zero first.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """

    def __init__(self, seed: int = 0) -> None:
        _, digits = split_by_image(load_digits())
        generator = torch.Generator().manual_seed(seed)
        cells = torch.randint(CELLS, (len(digits.labels),), generator=generator)
        self.classes = list(DIGIT_WORDS)
        self._seed = seed
        self._images = place_alone(digits.images, cells)
        self._labels = digits.labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def contents(self) -> Contents:
        return [("lone digits", f"{len(self):,} images, placed with seed {self._seed}")]

    def load(self, index: int) -> Sample:
        return Sample(f"digit/{index}", self._images[index], self.classes[self._labels[index]])
