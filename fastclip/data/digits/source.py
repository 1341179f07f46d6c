"""The images of digits that come with fastclip, as a source; see `fastclip.data.digits.grids`."""

import torch

from fastclip.data.digits.grids import CELLS, DigitGrids, Pairs, place_alone
from fastclip.data.digits.images import DIGIT_WORDS, load_digits, split_by_image
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Contents, IndexedSource, LabeledSource

NUM_PAIRS, NUM_HELD_OUT_PAIRS = 16_384, 1024


class DigitSource(IndexedSource):
    """Digit grids, (1, 16, 24) uint8, that are drawn once and for all.

    No two pairs of a draw have the same caption. By default there is one draw. There are more
    pairs to train on in many draws, of which one at a time is held in memory: read in order, as
    loaders with a shuffle buffer of 1 do, every batch of the size of a draw is one.

    Args:
        held_out: the test pairs: digits and arrangements that the others never show.
        num_samples: by default 16,384, or 1,024 of the held-out ones.
        pairs_per_draw: by default all.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: a draw is of no pair, or of more than there are.
    """

    def __init__(
        self,
        held_out: bool = False,
        num_samples: int | None = None,
        seed: int = 0,
        pairs_per_draw: int | None = None,
    ) -> None:
        train_digits, test_digits = split_by_image(load_digits())
        if num_samples is None:
            num_samples = NUM_HELD_OUT_PAIRS if held_out else NUM_PAIRS
        self._grids = DigitGrids(test_digits if held_out else train_digits, held_out)
        self._name = "digits-held-out" if held_out else "digits"
        self._num_samples, self._seed = num_samples, seed
        self._pairs_per_draw = num_samples if pairs_per_draw is None else pairs_per_draw
        # Of the generator before each draw that was reached, and before the next.
        self._states = [torch.Generator().manual_seed(seed).get_state()]
        self._at, self._pairs = 0, self._draw(0)

    def __len__(self) -> int:
        return self._num_samples

    def contents(self) -> Contents:
        several = self._pairs_per_draw != self._num_samples
        size = f" in draws of {self._pairs_per_draw:,}" if several else ""
        return [(self._name, f"{len(self):,} pairs, drawn with seed {self._seed}{size}")]

    def load(self, index: int) -> Sample:
        draw, place = divmod(index, self._pairs_per_draw)
        if draw != self._at:
            self._at, self._pairs = draw, self._draw(draw)
        return Sample(
            f"{self._name}/{index}", self._pairs.images[place], self._pairs.captions[place]
        )

    def _draw(self, number: int) -> Pairs:
        """One after the other the first time; any of those again at once."""
        for reached in range(min(number, len(self._states) - 1), number + 1):
            generator = torch.Generator()
            generator.set_state(self._states[reached])
            pairs = self._grids.draw(self._pairs_per_draw, generator)
            if reached == len(self._states) - 1:
                self._states.append(generator.get_state())
        return pairs


class LoneDigitSource(LabeledSource):
    """Every digit of the test alone in a cell, (1, 16, 24) uint8; its class is its word.

    Args:
        seed: of the cells.
        held_out: False gives the digits to train on instead.

    Attributes:
        classes: the words, zero first.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """

    def __init__(self, seed: int = 0, held_out: bool = True) -> None:
        train_digits, test_digits = split_by_image(load_digits())
        digits = test_digits if held_out else train_digits
        generator = torch.Generator().manual_seed(seed)
        cells = torch.randint(CELLS, (len(digits.labels),), generator=generator)
        self.classes = list(DIGIT_WORDS)
        self._seed, self._held_out = seed, held_out
        self._images = place_alone(digits.images, cells)
        self._labels = digits.labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def contents(self) -> Contents:
        name = "lone digits" if self._held_out else "lone digits to train on"
        return [(name, f"{len(self):,} images, placed with seed {self._seed}")]

    def load(self, index: int) -> Sample:
        return Sample(f"digit/{index}", self._images[index], self.classes[self._labels[index]])
