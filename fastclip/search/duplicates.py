"""Near duplicates by cosine, as groups: of the rows of a whole corpus, or of a few results.

A group is what is joined by a chain of near duplicates, as clip-retrieval has it, so that its ends
may be less alike than the threshold. Of n vectors, n (n + 1) D products are computed in blocks;
memory holds two blocks of float32, the products of one with the other, some 50 bytes of each near
pair in those, and 8 bytes of each row.
"""

from typing import NamedTuple

import numpy as np

from fastclip.search.components import Components
from fastclip.search.corpus import (
    Vectors,
    blocks_of,
    files_of,
    lengths_of,
    num_rows,
    rows_of_block,
)

ALIKE = 0.94  # clip-retrieval's threshold
ROUNDING = 1e-6  # of a cosine in float32: equal vectors are alike at 1
MOST_ROWS = 2048  # of a block by default: products of two take 16 MiB


class Duplicates(NamedTuple):
    """Groups of near duplicates.

    Attributes:
        groups: (k,) int64 numbers of rows, k at least 2, ascending; groups by their first row.
        num_unusable: rows that are 0, too long or not finite, and so have no cosine; in no group.
    """

    groups: list[np.ndarray]
    num_unusable: int


def duplicates(
    vectors: Vectors, threshold: float = ALIKE, *, block_rows: int | None = None
) -> Duplicates:
    """Return the groups of vectors that are near duplicates.

    Args:
        vectors: see `files_of`: a side of opened embeddings, or arrays; of any lengths.
        threshold: the cosine from which on two are near duplicates, to within 1e-6; above 0 and
            at most 1.
        block_rows: how many rows are compared with as many others at a time.

    Raises:
        ValueError: the vectors are no such arrays, or a number is out of its range.

    Example:
        >>> duplicates(open_embeddings("embeddings").images, 0.98).groups
        [array([3, 17, 90]), array([8, 41])]
    """
    names, num_unusable = names_of_alike(vectors, threshold, block_rows=block_rows)
    sizes = np.bincount(names, minlength=1)
    alike = np.flatnonzero(sizes[names] > 1)
    order = alike[np.argsort(names[alike], kind="stable")]
    stops = np.cumsum(sizes[sizes > 1])
    return Duplicates(np.split(order, stops[:-1]) if len(order) else [], num_unusable)


def names_of_alike(
    vectors: Vectors, threshold: float = ALIKE, *, block_rows: int | None = None
) -> tuple[np.ndarray, int]:
    """Return of each row the lowest row of its group, and how many rows have no cosine.

    Arguments and errors are those of `duplicates`.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    files = files_of(vectors)
    size = rows_of_block(files, block_rows)
    if block_rows is None:
        size = min(size, MOST_ROWS)
    groups = Components(num_rows(files))
    num_unusable = 0
    for first, block in blocks_of(files, size):
        left, num = _unit(block)
        num_unusable += num
        for other, others in blocks_of(files, size, first):
            right = left if other == first else _unit(others)[0]
            own, rows = np.nonzero(left @ right.T >= threshold - ROUNDING)
            groups.join(own + first, rows + other)
    return groups.names(), num_unusable


def _unit(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Unit rows, and 0 for those that have no direction, with how many those are."""
    lengths = lengths_of(rows)
    usable = lengths > 0
    unit = np.where(usable[:, None], rows, 0) / np.where(usable, lengths, 1)[:, None]
    return unit, len(rows) - int(usable.sum())
