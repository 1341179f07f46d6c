"""Decoded images, kept in memory that the processes of a loader share.

A run over few samples decodes the same files in every epoch. The cache keeps what the decoder
returns, before any augmentation, so that a transform sees the same pixels with and without it.

The memory is anonymous and shared with processes that are forked. A table has a row per sample:
where its pixels begin, height, width, and a checksum of all three and of the pixels. Every process
writes into a range of its own, the pixels first and the row last. There is no lock, because a
process that is killed could keep it: a reader copies the pixels, compares the checksum, and decodes
the file again if the checksum is wrong.
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
BEGIN, HEIGHT, WIDTH, CHECKSUM, COLUMNS = range(5)  # BEGIN is 0 if not kept, else offset + 1


class ImageCache:
    """Keeps decoded RGB images of a data set in up to `num_bytes`; the rest is not kept.

    Args:
        firsts: for each part of the source, the number of its first sample; see `first_numbers`.
        num_samples: how many samples the source has, at least 1. If a part turns out to have more
            samples than these numbers say, the additional ones are not kept.
        num_bytes: bytes of pixels, at least 1; memory is only taken when it is written to.
        num_writers: processes that write, at least 1; each may fill an equal share of the bytes.

    Attributes:
        num_bytes: as given.

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
        """Return the part of the cache that process number `writer`, from 0, writes to."""
        return CachePart(self, writer)

    def find(self, address: Address) -> Image.Image | None:
        """Return the image of a sample, or None if it is not kept."""
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
        """Keep an RGB image if the writer's share of the memory has room for it."""
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
        """Return the row of a sample; None if its part has more samples than it stated."""
        begin, end = self._bounds[address.part : address.part + 2]
        return begin + address.number if address.number < end - begin else None


@dataclass(frozen=True)
class CachePart:
    """The cache as seen by one process, which writes to its own share."""

    cache: ImageCache
    writer: int

    def transform(
        self, address: Address, transform: Callable[[Any], Tensor], source: Any
    ) -> Tensor:
        """Return `transform(source)`, decoding the image only if it is not kept yet.

        Args:
            transform: from `fastclip.data.preprocess`; its first step says how files are decoded.
            source: the image of the sample at `address`. Anything but a path or bytes is decoded
                already and is not kept.

        Raises:
            the errors of `transform`.
        """
        if not isinstance(source, str | PathLike | bytes):
            return transform(source)
        image = self.cache.find(address)
        if image is None:
            image = decoded(transform, source)
            self.cache.keep(address, image, self.writer)
        return transform(image)


def decoded(transform: Any, source: str | PathLike | bytes) -> Image.Image:
    """Return the RGB image that the first step of a transform reads; raises as that step does."""
    first = transform.transforms[0]
    return (first if isinstance(first, OpenReduced) else Open())(source)


def _checksum(row: np.ndarray, pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels), zlib.crc32(row[:CHECKSUM].tobytes()))


def _shared(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return zeros in memory that this process shares with the processes it forks."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
