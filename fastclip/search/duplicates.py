"""Groups of near duplicates by cosine, in a whole corpus or among a few results.

As in clip-retrieval, a group is joined by chains of near duplicates, so that its ends may be less
alike than the threshold. For n vectors, n (n + 1) D FLOPs are computed in blocks; memory holds two
blocks of float32, their products, about 50 bytes for each near pair in them, and 8 bytes per row.
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
ROUNDING = 1e-6  # of a cosine in float32, so that equal vectors are duplicates at a threshold of 1
MOST_ROWS = 2048  # of a block by default: the products of two blocks take 16 MiB


class Duplicates(NamedTuple):
    """Groups of near duplicates.

    Attributes:
        groups: for each group (k,) int64 numbers of rows, k >= 2, ascending; groups are ordered by
            their first row.
        num_unusable: the number of rows that are 0, too long or not finite; they have no cosine and
            are in no group.
    """

    groups: list[np.ndarray]
    num_unusable: int


def duplicates(
    vectors: Vectors, threshold: float = ALIKE, *, block_rows: int | None = None
) -> Duplicates:
    """Return the groups of vectors that are near duplicates.

    Args:
        vectors: a side of opened embeddings, or arrays (see `files_of`), of any lengths.
        threshold: the cosine from which two vectors are near duplicates, to within 1e-6; above 0
            and at most 1.
        block_rows: how many rows are compared with as many others at a time.

    Raises:
        ValueError: the vectors have another type or shape, or a number is out of range.

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
    """Return for each row the lowest row of its group, and the number of rows without a cosine.

    Arguments and errors are the same as for `duplicates`.
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
    """Return unit rows, with 0 in place of rows without a direction, and the number of these."""
    lengths = lengths_of(rows)
    usable = lengths > 0
    unit = np.where(usable[:, None], rows, 0) / np.where(usable, lengths, 1)[:, None]
    return unit, len(rows) - int(usable.sum())
