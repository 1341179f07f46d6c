"""The images of digits that come with fastclip, as sources; see `fastclip.data.digits.grids`."""

import torch

from fastclip.data.digits.grids import CELLS, DigitGrids, Pairs, place_alone
from fastclip.data.digits.images import DIGIT_WORDS, load_digits, split_by_image
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Contents, IndexedSource, LabeledSource

NUM_PAIRS, NUM_HELD_OUT_PAIRS = 16_384, 1024


class DigitSource(IndexedSource):
    """A fixed set of digit grids, (1, 16, 24) uint8, with captions.

    No two pairs of a draw have the same caption. By default there is one draw. Several draws give
    more pairs to train on, and only one draw at a time is in memory: if the pairs are read in
    order, as loaders with a shuffle buffer of 1 do, each batch of the size of a draw is one draw.

    Args:
        held_out: give the test pairs, with digits and arrangements that the other pairs never show.
        num_samples: number of pairs; by default 16,384, or 1,024 if held out.
        seed: the seed of the draws.
        pairs_per_draw: pairs of one draw; by default all.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: a draw would have no pair, or more pairs than there are.
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
        # States of the generator before each draw that was made, and before the next one.
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
        """Make the draws up to `number` in order; repeat an earlier draw directly."""
        for reached in range(min(number, len(self._states) - 1), number + 1):
            generator = torch.Generator()
            generator.set_state(self._states[reached])
            pairs = self._grids.draw(self._pairs_per_draw, generator)
            if reached == len(self._states) - 1:
                self._states.append(generator.get_state())
        return pairs


class LoneDigitSource(LabeledSource):
    """Every test digit alone in a random cell, (1, 16, 24) uint8; its class is its word.

    Args:
        seed: the seed of the cells.
        held_out: with False, give the training digits instead.

    Attributes:
        classes: the words, from "zero" to "nine".

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
