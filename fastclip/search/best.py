"""The scores of pairs of a query and a row, and the best rows of every query.

A score is a sum in float64 that is rounded once, to float32. It depends on the query and the row
alone, wherever they stand and whoever has found them, so that equal rows have equal scores.
"""

from typing import NamedTuple

import numpy as np

from fastclip.search.corpus import BLOCK_BYTES, LONGEST, lengths_of


class Found(NamedTuple):
    """The best rows of every query, best first; of equal scores the lower row first.

    Attributes:
        scores: (Q, k) float32: products, which of unit vectors are cosines. k is the number that
            was asked for, or that of all usable rows if there are fewer.
        rows: (Q, k) int64: numbers of rows, over all files.
        num_unusable: rows with entries that are nan or infinite, or longer than 2^60. They are
            never found.
    """

    scores: np.ndarray
    rows: np.ndarray
    num_unusable: int


def checked_queries(queries: np.ndarray, dim: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return queries as (Q, D) float32, row after row, and their (Q,) lengths.

    Raises:
        ValueError: they have another shape, one is not finite or longer than 2^60, or `top` is
            below 1.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries must be (Q, {dim}), got shape {queries.shape}")
    lengths = lengths_of(queries)
    if np.isnan(lengths).any():
        raise ValueError(f"a query is not finite, or longer than {LONGEST:g}")
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    return queries, lengths


def scores_of_pairs(
    queries: np.ndarray, block: np.ndarray, own: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return the float32 scores of pairs of a query and a row, each summed by itself in float64.

    Args:
        queries, block: (Q, D) and (n, D) float32.
        own, rows: (m,) numbers of the queries and of the rows of `block`.
    """
    scores = np.empty(len(own), np.float32)
    step = max(1, BLOCK_BYTES // (16 * block.shape[1]))
    for start in range(0, len(own), step):
        part = slice(start, start + step)
        left, right = queries[own[part]], block[rows[part]]
        scores[part] = np.einsum("ij,ij->i", left.astype(np.float64), right.astype(np.float64))
    return scores


class Best:
    """The best rows so far of every query, in order; what is still missing scores -inf.

    Args:
        num_queries: Q.
        top: how many of each are wanted; at most as many as there are rows.
    """

    def __init__(self, num_queries: int, top: int) -> None:
        self.top = top
        self._scores = np.full((num_queries, top), -np.inf, np.float32)
        self._rows = np.full((num_queries, top), np.iinfo(np.int64).max)

    @property
    def last(self) -> np.ndarray:
        """(Q,): what a row must score to be among the best."""
        return self._scores[:, -1]

    def add(self, own: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> None:
        """Take rows that are better; `own` are the numbers of their queries, ascending."""
        changed = np.unique(own)
        if not len(changed):
            return
        queries = np.concatenate([np.repeat(changed, self.top), own])
        scores = np.concatenate([self._scores[changed].reshape(-1), scores])
        rows = np.concatenate([self._rows[changed].reshape(-1), rows])
        order = np.lexsort((rows, -scores, queries))
        starts = np.searchsorted(queries[order], changed)
        kept = order[starts[:, None] + np.arange(self.top)]
        self._scores[changed], self._rows[changed] = scores[kept], rows[kept]

    def found(self, num_usable: int, num_unusable: int) -> Found:
        """Return them, up to the number of rows that can be found."""
        count = min(self.top, num_usable)
        return Found(self._scores[:, :count], self._rows[:, :count], num_unusable)
