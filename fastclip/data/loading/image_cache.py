"""Images as they were decoded, kept in memory that the processes of a loader share.

A run over few samples decodes the same files in every epoch. What is kept here is what comes out of
the decoder, before any augmentation, so that a transform has the same pixels with and without it.

The memory is anonymous and shared with processes that are forked. A table has a row per sample:
where its pixels begin, height, width, and a checksum of all three and of the pixels. Every process
writes into a stretch of its own, pixels first and the row last, and there is no lock, which a
process that is killed could keep: whoever reads copies the pixels and compares the checksum, and
decodes the file anew if it does not hold.
"""

import mmap
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fastclip.data.loading.stream import Address
from fastclip.data.transform_steps import Open, OpenReduced

CHANNELS = 3
BEGIN, HEIGHT, WIDTH, CHECKSUM, COLUMNS = range(5)  # BEGIN is 0 of what is not kept, else 1 more


class ImageCache:
    """Decoded RGB images of a data set, up to so many bytes; what has no place is not kept.

    Args:
        firsts: by part of the source, the number of its first sample; see `first_numbers`.
        num_samples: of the source, at least 1. What is in a part behind as many samples as it has
            by these numbers is not kept.
        num_bytes: of pixels, at least 1; memory is taken as it is written to.
        num_writers: processes that write, at least 1; each may fill an equal share of the bytes.

    Attributes:
        num_bytes: as it was given.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> cache = ImageCache([0], num_samples=10, num_bytes=2**20)
        >>> part = cache.part(0)  # of the first process
        >>> pixels = part.transform(Address(0, 0, 7), my_transform, "cat.jpg")  # decodes the file
        >>> pixels = part.transform(Address(0, 0, 7), my_transform, "cat.jpg")  # does not
    """

    def __init__(
        self, firsts: Sequence[int], num_samples: int, num_bytes: int, num_writers: int = 1
    ) -> None:
        for name, value in (
            ("num_samples", num_samples), ("num_bytes", num_bytes), ("num_writers", num_writers),
        ):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.num_bytes = num_bytes
        self._bounds = [*firsts, num_samples]  # of the rows of each part
        self._rows = _shared((num_samples, COLUMNS), np.int64)
        self._filled = _shared((num_writers,), np.int64)  # bytes of each writer's share
        self._pixels = _shared((num_bytes,), np.uint8)

    @property
    def num_kept(self) -> int:
        """How many images are kept."""
        return int((self._rows[:, BEGIN] > 0).sum())

    @property
    def bytes_kept(self) -> int:
        """How many bytes of pixels are written."""
        return int(self._filled.sum())

    def part(self, writer: int) -> "CachePart":
        """What process `writer`, from 0, transforms images with."""
        return CachePart(self, writer)

    def find(self, address: Address) -> Image.Image | None:
        """The image of a sample, or None if it is not kept."""
        if (number := self._number(address)) is None:
            return None
        row = self._rows[number].copy()
        begin, height, width = (int(row[i]) for i in (BEGIN, HEIGHT, WIDTH))
        size = height * width * CHANNELS
        if not 0 < begin <= self.num_bytes - size + 1 or size <= 0:
            return None
        pixels = self._pixels[begin - 1 : begin - 1 + size].copy()
        if _checksum(row, pixels) != row[CHECKSUM]:
            return None
        return Image.fromarray(pixels.reshape(height, width, CHANNELS))

    def keep(self, address: Address, image: Image.Image, writer: int) -> None:
        """Keep an RGB image, if it has a place in the share of a writer."""
        if (number := self._number(address)) is None:
            return
        pixels = np.asarray(image)
        share = self.num_bytes // len(self._filled)
        begin = writer * share + int(self._filled[writer])
        if begin + pixels.size > (writer + 1) * share:
            return
        self._filled[writer] += pixels.size  # before it is written: a process may be killed here
        self._pixels[begin : begin + pixels.size] = pixels.ravel()
        row = np.array([begin + 1, *pixels.shape[:2], 0], np.int64)
        row[CHECKSUM] = _checksum(row, pixels)
        self._rows[number] = row

    def _number(self, address: Address) -> int | None:
        """The row of a sample; None if its part should not have so many."""
        begin, end = self._bounds[address.part : address.part + 2]
        return begin + address.number if address.number < end - begin else None


@dataclass(frozen=True)
class CachePart:
    """The cache as one process writes into it."""

    cache: ImageCache
    writer: int

    def transform(
        self, address: Address, transform: Callable[[Any], Tensor], source: Any
    ) -> Tensor:
        """What `transform(source)` returns, of an image that is decoded once.

        Args:
            transform: of `fastclip.data.preprocess`; its first step says how files are decoded.
            source: the image of the sample at `address`; what is no path and no bytes is decoded
                already, and not kept.

        Raises:
            as `transform`.
        """
        if not isinstance(source, str | PathLike | bytes):
            return transform(source)
        image = self.cache.find(address)
        if image is None:
            image = decoded(transform, source)
            self.cache.keep(address, image, self.writer)
        return transform(image)


def decoded(transform: Any, source: str | PathLike | bytes) -> Image.Image:
    """The image in a file as a transform begins with it, in RGB; raises as the transform."""
    first = transform.transforms[0]
    return (first if isinstance(first, OpenReduced) else Open())(source)


def _checksum(row: np.ndarray, pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels), zlib.crc32(row[:CHECKSUM].tobytes()))


def _shared(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zeros that processes share which are forked from this one."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
