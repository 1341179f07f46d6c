"""Find the best rows among the candidates of an index, scored as in exact search."""

from typing import Protocol

import numpy as np

from fastclip.embeddings.side import Side
from fastclip.search.best import Best, Found, checked_queries, scores_of_pairs
from fastclip.search.corpus import (
    BLOCK_BYTES,
    Vectors,
    dim_of,
    files_of,
    lengths_of,
    num_rows,
)
from fastclip.search.exact import search

# Candidates for each wanted row, and the fewest of all: compressed vectors err in the order.
TIMES, FEWEST = 10, 100


class Index(Protocol):
    """An index that proposes rows that may be near a query.

    Attributes:
        num_rows: the number of vectors that it was built from.
        dim: D of these vectors.
        num_unusable: how many of them are not finite or too long.
    """

    num_rows: int
    dim: int
    num_unusable: int

    def candidates(self, queries: np.ndarray, num: int) -> np.ndarray:
        """Return (Q, num) int64 numbers of rows for (Q, D) float32 queries; -1 stands for none."""


def approximate_search(
    queries: np.ndarray,
    vectors: Vectors,
    index: Index,
    top: int,
    *,
    candidates: int | None = None,
) -> Found:
    """Return the rows with the greatest products among the candidates of an index.

    Candidates are scored again from the vectors, as in `search`: scores are exact, an image finds
    its own vector with a score of 1, and among equal scores the lower row comes first. The search
    may miss a row that the index does not propose (see `measured_recall`), and the lowest of equal
    rows if there are more equal rows than candidates. If the index proposes fewer rows than wanted,
    the query is searched exactly.

    Args:
        queries: (Q, D) float32, finite.
        vectors: the vectors that the index was built from; see `files_of`.
        index: the index, from `open_index`.
        top: how many rows to find, at least 1.
        candidates: how many rows to score for each query, at least `top`; by default ten times
            `top`, and at least 100.

    Raises:
        ValueError: shapes do not fit, the index has another number of rows, a query is not finite
            or longer than 2^60, or a number is out of range.

    Example:
        >>> embeddings = open_embeddings("embeddings")
        >>> index = open_index(embeddings, "img")
        >>> approximate_search(embeddings.images.rows([5]), embeddings.images, index, top=3).rows
        array([[ 5, 71, 12]])
    """
    files = files_of(vectors)
    if (index.num_rows, index.dim) != (num_rows(files), dim_of(files)):
        raise ValueError(
            f"vectors must be the {index.num_rows:,} vectors of {index.dim} entries that the index "
            f"was built from, got {num_rows(files):,} of {dim_of(files)} entries"
        )
    queries, _ = checked_queries(queries, index.dim, top)
    wanted = _num_candidates(candidates, top, index.num_rows)
    best = Best(len(queries), min(top, index.num_rows))
    side = Side("", files)
    step = max(1, BLOCK_BYTES // (4 * index.dim * max(1, wanted)))
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        own, numbers = _pairs(index.candidates(part, wanted), index.num_rows)
        rows, places = np.unique(numbers, return_inverse=True)
        block = side.rows(rows)
        usable = ~np.isnan(lengths_of(block))[places]
        own, numbers, places = own[usable], numbers[usable], places[usable]
        best.add(own + start, scores_of_pairs(part, block, own, places), numbers)
    found = best.found(index.num_rows - index.num_unusable, index.num_unusable)
    incomplete = np.isneginf(found.scores).any(axis=1)
    if incomplete.any():
        exact = search(queries[incomplete], vectors, top)
        found.scores[incomplete], found.rows[incomplete] = exact.scores, exact.rows
    return found


def _num_candidates(asked: int | None, top: int, num: int) -> int:
    if asked is not None and asked < top:
        raise ValueError(f"candidates must be at least top, which is {top}, got {asked}")
    return min(num, max(FEWEST, TIMES * top) if asked is None else asked)


def _pairs(proposed: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of queries, ascending, and of the rows proposed for them, each pair once."""
    own, _ = np.nonzero(proposed >= 0)
    pairs = np.unique(own * num + proposed[proposed >= 0])
    return pairs // num, pairs % num
