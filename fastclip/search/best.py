"""The scores of pairs of a query and a row, and the best rows of every query.

A score is a sum in float64 that is rounded once, to float32. It depends only on the query and the
row, not on their positions or on the search that found them, so that equal rows have equal scores.
"""

from typing import NamedTuple

import numpy as np

from fastclip.search.corpus import BLOCK_BYTES, LONGEST, lengths_of


class Found(NamedTuple):
    """The best rows of every query, best first; among equal scores the lower row comes first.

    Attributes:
        scores: (Q, k) float32: inner products, which are cosines for unit vectors. k is the
            requested number, or the number of usable rows if there are fewer.
        rows: (Q, k) int64: numbers of rows, counted over all files.
        num_unusable: the number of rows that have entries that are not finite, or are longer than
            2^60. Such rows are never found.
    """

    scores: np.ndarray
    rows: np.ndarray
    num_unusable: int


def checked_queries(queries: np.ndarray, dim: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return queries as a contiguous (Q, D) float32 array, and their (Q,) lengths.

    Raises:
        ValueError: the queries have another shape, one is not finite or longer than 2^60, or `top`
            is below 1.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries must be (Q, {dim}), got shape {queries.shape}")
    lengths = lengths_of(queries)
    if np.isnan(lengths).any():
        raise ValueError(f"queries must be finite and at most {LONGEST:g} long; one is not")
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    return queries, lengths


def scores_of_pairs(
    queries: np.ndarray, block: np.ndarray, own: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return the float32 scores of pairs of a query and a row, each summed separately in float64.

    Args:
        queries, block: (Q, D) and (n, D) float32.
        own, rows: (m,) indices into `queries` and into `block`.
    """
    scores = np.empty(len(own), np.float32)
    step = max(1, BLOCK_BYTES // (16 * block.shape[1]))
    for start in range(0, len(own), step):
        part = slice(start, start + step)
        left, right = queries[own[part]], block[rows[part]]
        scores[part] = np.einsum("ij,ij->i", left.astype(np.float64), right.astype(np.float64))
    return scores


class Best:
    """The best rows of every query so far, in order; places that are still empty score -inf.

    Args:
        num_queries: Q.
        top: the number of rows to keep per query; at most the number of all rows.
    """

    def __init__(self, num_queries: int, top: int) -> None:
        self.top = top
        self._scores = np.full((num_queries, top), -np.inf, np.float32)
        self._rows = np.full((num_queries, top), np.iinfo(np.int64).max)

    @property
    def last(self) -> np.ndarray:
        """(Q,): the lowest of the best scores, which a row must reach to be among the best."""
        return self._scores[:, -1]

    def add(self, own: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> None:
        """Add candidates, and keep the best; `own` are the indices of their queries, ascending."""
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
        """Return the best rows, at most as many as are usable."""
        count = min(self.top, num_usable)
        return Found(self._scores[:, :count], self._rows[:, :count], num_unusable)
