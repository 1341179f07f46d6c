"""Random images with random captions, for measuring and testing without data."""

import torch

from fastclip.data.randomness import seeded_generator
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Contents, IndexedSource

WORDS = (
    "amber", "bridge", "cloud", "delta", "ember", "fjord", "grove", "harbour", "island", "jungle",
    "kettle", "lantern", "meadow", "needle", "orchard", "pebble", "quarry", "river", "summit",
    "tower", "umbrella", "valley", "window", "yarn",
)  # fmt: skip
WORDS_PER_CAPTION = 6


class SyntheticSource(IndexedSource):
    """Uniform noise with captions of six words; a sample depends only on its number and the seed.

    Args:
        num_samples: at least 1.
        image_size: height and width in pixels, or one number for both.
        seed: the seed of all samples.

    Raises:
        ValueError: a number is not positive.
    """

    def __init__(
        self, num_samples: int, image_size: int | tuple[int, int] = 224, seed: int = 0
    ) -> None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if num_samples < 1:
            raise ValueError(f"num_samples must be positive, got {num_samples}")
        if min(height, width) < 1:
            raise ValueError(f"image_size must be positive, got {image_size}")
        self._num_samples, self._size, self._seed = num_samples, (height, width), seed

    def __len__(self) -> int:
        return self._num_samples

    def contents(self) -> Contents:
        height, width = self._size
        return [
            ("synthetic", f"{len(self):,} samples of {height} x {width}, seed {self._seed}"),
        ]

    def load(self, index: int) -> Sample:
        generator = seeded_generator(self._seed, "synthetic", index)
        pixels = torch.randint(256, (3, *self._size), generator=generator, dtype=torch.uint8)
        drawn = torch.randint(len(WORDS), (WORDS_PER_CAPTION,), generator=generator)
        return Sample(f"synthetic/{index}", pixels, " ".join(WORDS[i] for i in drawn.tolist()))
