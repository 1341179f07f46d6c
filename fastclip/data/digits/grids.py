"""Images of several digits with captions that say which digit stands where.

An image is a 2 x 3 grid of cells, one to four of which hold a handwritten digit; its caption names
the digits in reading order: "top left three, top right seven, bottom middle zero".

Why 2 x 3: the contrastive loss treats every other caption of the batch as wrong, so two images of a
batch must not share a caption. Up to four digits in six cells make 171,560 captions (2 x 2 cells
would make 14,640), and a batch is drawn without repetition, so that there are no false negatives
even in batches of 32k and more. Images with a single digit are among the training images, so that
classifying a digit is a task that training has shown.

Held out: arrangements of two or more digits whose sum is a multiple of ten, a tenth of all. The
test pairs have only these arrangements, and only test images of digits: training has shown neither
the digits nor the captions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.data.digits.images import DIGIT_SIZE, DIGIT_WORDS, LabeledImages

ROWS, COLUMNS = 2, 3
CELLS = ROWS * COLUMNS
CELL_NAMES = (
    "top left", "top middle", "top right", "bottom left", "bottom middle", "bottom right",
)  # fmt: skip
# For an image with one digit, by the cell that the digit is in.
PROMPTS = tuple(f"{name} {{}}" for name in CELL_NAMES)
BLANK = len(DIGIT_WORDS)
IMAGE_SIZE = (ROWS * DIGIT_SIZE, COLUMNS * DIGIT_SIZE)  # height, width in pixels

# How often an image holds one, two, three or four digits. A lone digit has only 60 arrangements,
# so few of them fit into a batch.
NUM_DIGITS_WEIGHTS = (0.05, 0.25, 0.35, 0.35)
# The most pairs of one draw, of 154,410 arrangements to train on and 17,150 held out: once most
# arrangements are taken, drawing another one gets slow.
MAX_PAIRS, MAX_HELD_OUT_PAIRS = 65_536, 8_192


class Pairs(NamedTuple):
    images: Tensor  # (B, 1, 16, 24) uint8
    captions: list[str]  # B, all different
    arrangements: Tensor  # (B, 6) int64: the digit in each cell, or BLANK


class DigitGrids:
    """Draws image-caption pairs from a set of digits.

    Args:
        digits: (N, 8, 8) uint8 images and their labels, at least one of each digit.
        held_out: draw only the held-out arrangements, instead of all others.
    """

    def __init__(self, digits: LabeledImages, held_out: bool = False) -> None:
        counts = digits.labels.bincount(minlength=len(DIGIT_WORDS))
        if (counts == 0).any():
            missing = [DIGIT_WORDS[i] for i in (counts == 0).nonzero().squeeze(1).tolist()]
            raise ValueError(f"digits must hold images of every digit, but has none of {missing}")
        blank = digits.images.new_zeros(1, DIGIT_SIZE, DIGIT_SIZE)
        # Sorted by label, a digit's images are a range; the blank is an eleventh class of one.
        self._images = torch.cat([digits.images[digits.labels.argsort(stable=True)], blank])
        self._counts = torch.cat([counts, counts.new_ones(1)])
        self._starts = self._counts.cumsum(0) - self._counts
        self.held_out = held_out

    def draw(self, num_pairs: int, generator: torch.Generator) -> Pairs:
        """Return pairs with different captions; they depend only on the generator.

        Raises:
            ValueError: `num_pairs` is not in [1, 65536], or in [1, 8192] if held out.
        """
        most = MAX_HELD_OUT_PAIRS if self.held_out else MAX_PAIRS
        if not 1 <= num_pairs <= most:
            raise ValueError(f"num_pairs must be in [1, {most}], got {num_pairs}")
        arrangements = _distinct_arrangements(num_pairs, self.held_out, generator)
        uniform = torch.rand(arrangements.shape, generator=generator, dtype=torch.float64)
        chosen = self._starts[arrangements] + (uniform * self._counts[arrangements]).long()
        return Pairs(compose(self._images[chosen]), captions_of(arrangements), arrangements)


def compose(cells: Tensor) -> Tensor:
    """Join (B, 6, 8, 8) cells, in reading order, into (B, 1, 16, 24) images."""
    grid = cells.reshape(-1, ROWS, COLUMNS, DIGIT_SIZE, DIGIT_SIZE)
    return grid.permute(0, 1, 3, 2, 4).reshape(-1, 1, *IMAGE_SIZE)


def place_alone(images: Tensor, cells: Tensor) -> Tensor:
    """Put each of (N, 8, 8) digits into the cell that (N,) int64 `cells` names: (N, 1, 16, 24)."""
    canvas = images.new_zeros(len(images), CELLS, DIGIT_SIZE, DIGIT_SIZE)
    canvas[torch.arange(len(images)), cells] = images
    return compose(canvas)


def captions_of(arrangements: Tensor) -> list[str]:
    """Describe (B, 6) arrangements, cell by cell in reading order; blanks are left out."""
    return [", ".join(_phrases(cells)) for cells in arrangements.tolist()]


def is_held_out(arrangements: Tensor) -> Tensor:
    """Return (B,) bool: whether each of (B, 6) arrangements is kept for the test."""
    filled = arrangements != BLANK
    total = (arrangements * filled).sum(1)
    return (filled.sum(1) >= 2) & (total % 10 == 0)


def _phrases(cells: Sequence[int]) -> list[str]:
    return [
        f"{name} {DIGIT_WORDS[digit]}"
        for name, digit in zip(CELL_NAMES, cells, strict=True)
        if digit != BLANK
    ]


def _distinct_arrangements(num: int, held_out: bool, generator: torch.Generator) -> Tensor:
    powers = (BLANK + 1) ** torch.arange(CELLS)
    found = torch.empty(0, CELLS, dtype=torch.int64)
    while len(found) < num:
        drawn = _random_arrangements(2 * num, generator)
        found = torch.cat([found, drawn[is_held_out(drawn) == held_out]])
        found = found[_first_occurrences((found * powers).sum(1))]
    return found[:num]


def _random_arrangements(num: int, generator: torch.Generator) -> Tensor:
    weights = torch.tensor(NUM_DIGITS_WEIGHTS)
    num_digits = 1 + torch.multinomial(weights, num, replacement=True, generator=generator)
    order = torch.rand(num, CELLS, generator=generator).argsort(1).argsort(1)
    digits = torch.randint(len(DIGIT_WORDS), (num, CELLS), generator=generator)
    return digits.masked_fill(order >= num_digits[:, None], BLANK)


def _first_occurrences(codes: Tensor) -> Tensor:
    """Return the index of the first occurrence of each value, ascending, to keep the order."""
    order = codes.argsort(stable=True)
    is_first = torch.ones_like(order, dtype=torch.bool)
    is_first[1:] = codes[order][1:] != codes[order][:-1]
    return order[is_first].sort().values
