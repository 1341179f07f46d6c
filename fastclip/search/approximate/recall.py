"""Measure the recall of an index: the fraction of exact search's results that the index finds.

The recall of a query is the fraction of its k results that score at least as much as the last of
the k best rows; which of several equal rows is found does not matter. If a query is a row of the
corpus, that row is left out of its results, because it is always found.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastclip.confidence import wilson_of
from fastclip.embeddings.side import Side
from fastclip.search.approximate.search import Index, approximate_search
from fastclip.search.best import Found
from fastclip.search.corpus import Vectors, files_of, lengths_of, num_rows
from fastclip.search.exact import search

TOP, NUM_QUERIES = 10, 100
OWN_ROWS, QUERIES = "rows of the corpus", "given queries"


@dataclass(frozen=True)
class Recall:
    """The recall of an index.

    Attributes:
        value: the mean over queries of the fraction that is found, in [0, 1].
        low, high: the 95 % confidence interval of the recall over all such queries.
        top: k, the number of results that were compared; smaller than requested if there are fewer
            rows.
        num_queries: the number of queries.
        of: "rows of the corpus" or "given queries". Texts lie elsewhere than the images that they
            search, and their recall is often lower than with images as queries.
    """

    value: float
    low: float
    high: float
    top: int
    num_queries: int
    of: str

    def __str__(self) -> str:
        return (
            f"recall@{self.top} {self.value:.1%} ({self.low:.1%} to {self.high:.1%}), measured on "
            f"{self.num_queries:,} {self.of}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self)


def measured_recall(
    index: Index,
    vectors: Vectors,
    top: int = TOP,
    *,
    queries: np.ndarray | None = None,
    num_queries: int = NUM_QUERIES,
    candidates: int | None = None,
    seed: int = 0,
) -> Recall:
    """Return the recall of an index, compared with exact search.

    Args:
        index: from `open_index`.
        vectors: the vectors that the index was built from.
        top: k, the number of results to compare.
        queries: (Q, D) float32, similar to future queries: for images that texts will search,
            vectors of texts. By default `num_queries` rows of the corpus, drawn at random.
        num_queries: how many rows to draw if no queries are given, at least 1; all rows if there
            are fewer.
        candidates: see `approximate_search`.
        seed: the seed of the draw.

    Raises:
        ValueError: there is no query, or no row to find; or see `approximate_search`.

    Example:
        >>> print(measured_recall(index, embeddings.images))
        recall@10 98.1% (93.2% to 99.5%), measured on 100 rows of the corpus
    """
    sample = Sample(vectors, top, queries=queries, num_queries=num_queries, seed=seed)
    return sample.recall(index, candidates)


class Sample:
    """Queries with their results of exact search, with which several indexes can be compared.

    The arguments are the same as for `measured_recall`.
    """

    def __init__(
        self,
        vectors: Vectors,
        top: int = TOP,
        *,
        queries: np.ndarray | None = None,
        num_queries: int = NUM_QUERIES,
        seed: int = 0,
    ) -> None:
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        self._vectors, self._own = vectors, None
        if queries is None:
            self._own = usable_rows(vectors, num_queries, seed)
            queries = Side("", files_of(vectors)).rows(self._own)
        if len(queries) == 0:
            raise ValueError("recall cannot be measured: there is no query")
        self._queries, self._top = queries, top + (self._own is not None)
        exact = self._others(search(queries, vectors, self._top))
        if exact.shape[1] == 0:
            raise ValueError("recall cannot be measured: there is no row to find")
        self._least = exact[:, -1:]
        self._num_results = exact.shape[1]

    def recall(self, index: Index, candidates: int | None = None) -> Recall:
        """Return the recall of an index on these queries."""
        found = approximate_search(
            self._queries, self._vectors, index, self._top, candidates=candidates
        )
        total = float((self._others(found) >= self._least).mean(axis=1).sum())
        num = len(self._queries)
        interval = wilson_of(total, num)
        of = QUERIES if self._own is None else OWN_ROWS
        return Recall(total / num, *interval, self._num_results, num, of)

    def _others(self, found: Found) -> np.ndarray:
        """Return scores without the query's own row, or without the last row if that is absent.

        Queries that are not rows of the corpus keep all their results.
        """
        if self._own is None:
            return found.scores
        is_own = found.rows == self._own[:, None]
        order = np.argsort(is_own, axis=1, kind="stable")[:, : found.rows.shape[1] - 1]
        return np.take_along_axis(found.scores, order, axis=1)


def usable_rows(vectors: Vectors, num: int, seed: int = 0) -> np.ndarray:
    """Return the numbers of usable rows among rows that are drawn at random, ascending.

    Args:
        vectors: the vectors.
        num: how many rows to draw, at least 1; all rows if there are fewer. Drawn rows that are not
            finite or too long are left out.
        seed: the seed of the draw.
    """
    if num < 1:
        raise ValueError(f"num_queries must be at least 1, got {num}")
    files = files_of(vectors)
    total = num_rows(files)
    drawn = np.sort(np.random.default_rng(seed).choice(total, min(num, total), replace=False))
    return drawn[~np.isnan(lengths_of(Side("", files).rows(drawn)))]
