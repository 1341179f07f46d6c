"""What a loader may say of each sample of a batch, one int64 each.

    numbers        which sample of the source it is, at least 0 and below its `num_samples()`
    caption_ids    equal where captions are, as the model reads them: of their tokens
    image_ids      equal where images are, before they are augmented: of a file's bytes, or pixels

Ids are BLAKE2b digests of 64 bits, the same in every run, process and machine. Of a billion
different captions two have one id by chance with a probability of 3 %.
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
        names: out of FACTS.
        parts: of the source.

    Raises:
        ValueError: a name is unknown, or numbers are asked for and a part has no length.
    """

    def __init__(self, names: Collection[str], parts: Sequence[Part]) -> None:
        if unknown := [name for name in names if name not in FACTS]:
            raise ValueError(f"facts must be out of {FACTS}, got {unknown[0]!r}")
        self.names = tuple(names)
        self._firsts = first_numbers(parts) if NUMBERS in names else []
        if self._firsts is None:
            raise ValueError(
                "facts must be without numbers for data that does not say how much there is"
            )

    def __call__(self, address: Address, sample: Sample, tokens: Tensor) -> tuple[int, ...]:
        """One for each name.

        Args:
            tokens: (T,) int64, of the caption.

        Raises:
            OSError: the file of the image is gone.
        """
        return tuple(self._fact(name, address, sample, tokens) for name in self.names)

    def _fact(self, name: str, address: Address, sample: Sample, tokens: Tensor) -> int:
        if name == NUMBERS:
            return self._firsts[address.part] + address.number
        return _digest(tokens.numpy()) if name == CAPTION_IDS else image_id(sample.image)


def image_id(image: bytes | str | Tensor | Image.Image | Any) -> int:
    """The id of an image, as a sample has it: of the bytes of a file, or else of the pixels."""
    if isinstance(image, str):
        with open(image, "rb") as file:
            return _digest(file.read())
    if isinstance(image, bytes):
        return _digest(image)
    if isinstance(image, Image.Image):
        # As an image is seen: of a palette the colours, and not the numbers.
        return _digest(np.asarray(image.convert("RGBA")))
    return _digest(image.numpy())


def _digest(of: bytes | np.ndarray) -> int:
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(of, np.ndarray):
        digest.update(f"{of.shape} {of.dtype}".encode())
        of = np.ascontiguousarray(of).tobytes()
    digest.update(of)
    return int.from_bytes(digest.digest(), "little", signed=True)
