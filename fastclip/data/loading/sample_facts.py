"""Facts that a loader can add for each sample of a batch, one int64 each.

    numbers        the number of the sample in its source, from 0 and below `num_samples()`
    caption_ids    equal for equal captions, as the model reads them: digests of the tokens
    image_ids      equal for equal images, before augmentation: digests of a file's bytes, or pixels

Ids are BLAKE2b digests of 64 bits, the same in every run, process and machine. Among a billion
different captions, two have the same id by chance with a probability of 3 %.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fastclip.data.loading.stream import Address
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Part, first_numbers

NUMBERS, CAPTION_IDS, IMAGE_IDS = "numbers", "caption_ids", "image_ids"
FACTS = (NUMBERS, CAPTION_IDS, IMAGE_IDS)


class SampleFacts:
    """Finds the facts that were asked for.

    Args:
        names: which facts, out of FACTS.
        parts: the parts of the source.

    Raises:
        ValueError: a name is unknown, or numbers are asked for and a part does not say how many
            samples it has.
    """

    def __init__(self, names: Collection[str], parts: Sequence[Part]) -> None:
        if unknown := [name for name in names if name not in FACTS]:
            raise ValueError(f"facts must be out of {FACTS}, got {unknown[0]!r}")
        self.names = tuple(names)
        self._firsts = first_numbers(parts) if NUMBERS in names else []
        if self._firsts is None:
            raise ValueError(
                "facts must not have 'numbers' for data that does not say how many samples it has"
            )

    def __call__(self, address: Address, sample: Sample, tokens: Tensor) -> tuple[int, ...]:
        """Return one fact for each name.

        Args:
            tokens: (T,) int64, the tokens of the caption.

        Raises:
            OSError: the file of the image is gone.
        """
        return tuple(self._fact(name, address, sample, tokens) for name in self.names)

    def _fact(self, name: str, address: Address, sample: Sample, tokens: Tensor) -> int:
        if name == NUMBERS:
            return self._firsts[address.part] + address.number
        return _digest(tokens.numpy()) if name == CAPTION_IDS else image_id(sample.image)


def image_id(image: bytes | str | Tensor | Image.Image | Any) -> int:
    """Return the id of a sample's image: a digest of the bytes of a file, or else of the pixels."""
    if isinstance(image, str):
        with open(image, "rb") as file:
            return _digest(file.read())
    if isinstance(image, bytes):
        return _digest(image)
    if isinstance(image, Image.Image):
        # The id is of what is seen: of a palette's colours, not of its indices.
        return _digest(np.asarray(image.convert("RGBA")))
    return _digest(image.numpy())


def _digest(of: bytes | np.ndarray) -> int:
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(of, np.ndarray):
        digest.update(f"{of.shape} {of.dtype}".encode())
        of = np.ascontiguousarray(of).tobytes()
    digest.update(of)
    return int.from_bytes(digest.digest(), "little", signed=True)
