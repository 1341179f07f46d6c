"""Finds the row of a sample of the source; rows are in the order of places, and are searched.

A place is the stretch of a sample and its position there, see `fastclip.data.sources.source`. It
identifies the sample within the same data, whatever was skipped before it, and whatever parts the
data is read in.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from fastclip.data.sources.source import Place
from fastclip.embeddings.array_file import open_array


def open_places(path: Path) -> np.ndarray:
    """Map the places of the rows of one file into memory, (n, 2) int64.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file does not hold such an array.
    """
    found = open_array(path, 2, (np.int64,))
    if found.shape[1] != 2:
        raise ValueError(f"{path} must have two numbers for each row, got shape {found.shape}")
    return found


def are_growing(places: np.ndarray) -> bool:
    """Return whether each of (n, 2) places comes after the one before, as rows require."""
    of_stretch, of_position = np.diff(places, axis=0).T
    return bool(((of_stretch > 0) | ((of_stretch == 0) & (of_position > 0))).all())


class Places:
    """The places of all rows of a folder.

    Args:
        files: (n, 2) int64 each, in order, mapped into memory: a search reads few of them.

    Example:
        >>> Places([np.array([[0, 0], [0, 512]]), np.array([[1, 0]])]).row_of((1, 0))
        2
    """

    def __init__(self, files: Sequence[np.ndarray]) -> None:
        self._files = [np.asarray(file) for file in files if len(file)]
        self._firsts = [_place(file[0]) for file in self._files]
        self._starts = [0, *accumulate(map(len, self._files))]

    def row_of(self, place: Place) -> int | None:
        """Return the number of the row of the sample at a place; None if it has no row."""
        number = bisect_right(self._firsts, place) - 1
        if number < 0:
            return None
        rows = self._files[number]
        found = bisect_left(rows, place, key=_place)
        is_there = found < len(rows) and _place(rows[found]) == place
        return self._starts[number] + found if is_there else None


def _place(row: np.ndarray) -> Place:
    return int(row[0]), int(row[1])
