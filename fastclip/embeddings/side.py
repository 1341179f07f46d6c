"""The vectors of one side, of images or of texts, over all their files."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from fastclip.embeddings.array_file import open_array
from fastclip.embeddings.layout import file_of, scales_of, vectors_of
from fastclip.embeddings.moments import Moments
from fastclip.embeddings.storage import DTYPES, Stored, to_float32

BLOCK = 8192  # rows that are converted to float64 at a time


def open_stored(folder: Path, side: str, number: int) -> Stored:
    """Map the vectors of one file into memory, with their scales if they are int8.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not such an array, or the two have different numbers of rows.
    """
    path = file_of(folder, vectors_of(side), number)
    return open_stored_at(path, file_of(folder, scales_of(side), number))


def open_stored_at(path: Path, path_of_scales: Path) -> Stored:
    """Do what `open_stored` does, for files with any paths."""
    values = open_array(path, 2, tuple(DTYPES.values()))
    if values.dtype != np.int8:
        return Stored(values)
    scales = open_array(path_of_scales, 1, (np.float32,))
    if len(scales) != len(values):
        raise ValueError(
            f"{path} has {len(values):,} rows, but {path_of_scales} has {len(scales):,}"
        )
    return Stored(values, scales)


def blocks_of(stored: Stored, size: int) -> Iterator[np.ndarray]:
    """Yield (n, D) float32 vectors of one file, at most `size` at a time."""
    for start in range(0, len(stored.values), size):
        part = slice(start, start + size)
        scales = None if stored.scales is None else stored.scales[part]
        yield to_float32(Stored(stored.values[part], scales))


def moments_of(stored: Stored) -> Moments:
    """Return the moments of all finite vectors of one file, as they are stored."""
    none = Moments.none(stored.values.shape[1])
    blocks = (block[np.isfinite(block).all(axis=1)] for block in blocks_of(stored, BLOCK))
    return sum(map(Moments.of, blocks), none)


@dataclass(frozen=True, eq=False)
class Side:
    """All vectors of one side.

    Attributes:
        name: "img" or "text".
        files: vectors as they are stored, mapped into memory: in order, at least one file.
        known_moments: the moments of all vectors, if they are on the disk.

    Example:
        >>> images = open_embeddings("embeddings").images
        >>> images.rows([0, 7]).shape, images.dtype
        ((2, 512), dtype('float32'))
    """

    name: str
    files: tuple[Stored, ...]
    known_moments: Moments | None = None

    def __len__(self) -> int:
        return self._stops[-1]

    @property
    def dim(self) -> int:
        """The number of entries of a vector."""
        return self.files[0].values.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """The type in which vectors are stored."""
        return self.files[0].values.dtype

    @functools.cached_property
    def moments(self) -> Moments:
        """Mean and covariance of all finite vectors; computed by reading them if not known."""
        if self.known_moments is not None:
            return self.known_moments
        return sum(map(moments_of, self.files), Moments.none(self.dim))

    def rows(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the vectors of some rows as (n, D) float32, in the order asked for.

        Raises:
            IndexError: there is no such row.
        """
        numbers = np.asarray(numbers, np.int64).reshape(-1)
        found = np.empty((len(numbers), self.dim), np.float32)
        places = place_of(self._stops, numbers)
        for file in np.unique(places[:, 0]):
            wanted = places[:, 0] == file
            stored, own = self.files[file], places[wanted, 1]
            scales = None if stored.scales is None else stored.scales[own]
            found[wanted] = to_float32(Stored(stored.values[own], scales))
        return found

    def blocks(self, size: int = 65536) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all vectors as (number of the first row, (n, D) float32), n at most `size`."""
        first = 0
        for stored in self.files:
            for block in blocks_of(stored, size):
                yield first, block
                first += len(block)

    @functools.cached_property
    def _stops(self) -> list[int]:
        return list(accumulate(len(stored.values) for stored in self.files))


def place_of(stops: list[int], numbers: np.ndarray) -> np.ndarray:
    """Return (n, 2) int64: for each row its file, and its number in that file.

    Args:
        stops: for each file, how many rows it and the files before it have.

    Raises:
        IndexError: there is no such row.
    """
    total = stops[-1] if stops else 0
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < total:
        raise IndexError(f"rows are numbered from 0 to {total - 1:,}, got {numbers.tolist()[:8]}")
    files = np.searchsorted(np.asarray(stops, np.int64), numbers, side="right")
    starts = np.asarray([0, *stops], np.int64)[files]
    return np.stack([files, numbers - starts], axis=1)
