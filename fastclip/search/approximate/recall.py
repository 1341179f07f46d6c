"""How much of what exact search finds an index finds too, measured on some queries.

The recall of a query is the fraction of its k results that score at least as much as the last of
the k best rows: which of equal rows is found does not count. A row of the corpus that asks for its
like is not one of its own results, which would be right for nothing.
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
    """Attributes:
    value: the mean over queries of the fraction that is found, in [0, 1].
    low, high: a 95 % interval of what it is over all such queries.
    top: k, how many results were compared; fewer than asked for if there are fewer rows.
    num_queries: that were asked.
    of: "rows of the corpus" or "given queries". Texts that search images lie elsewhere than those,
        and are often found worse than images that search images.
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
        vectors: those that it was built of.
        top: how many results are compared, k.
        queries: (Q, D) float32, such as will be asked: vectors of texts, for images that are
            searched by texts. By default `num_queries` rows of the corpus, drawn at random.
        num_queries: how many rows to draw, at least 1, if no queries are given; of fewer all.
        candidates: see `approximate_search`.
        seed: of the drawing.

    Raises:
        ValueError: as `approximate_search`, or there is no query, or no row to find.

    Example:
        >>> print(measured_recall(index, embeddings.images))
        recall@10 98.1% (93.2% to 99.5%), measured on 100 rows of the corpus
    """
    sample = Sample(vectors, top, queries=queries, num_queries=num_queries, seed=seed)
    return sample.recall(index, candidates)


class Sample:
    """Queries with what exact search finds, to which several indexes may be compared.

    Args: as in `measured_recall`.
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
        """Return what of it an index finds."""
        found = approximate_search(
            self._queries, self._vectors, index, self._top, candidates=candidates
        )
        total = float((self._others(found) >= self._least).mean(axis=1).sum())
        num = len(self._queries)
        interval = wilson_of(total, num)
        of = QUERIES if self._own is None else OWN_ROWS
        return Recall(total / num, *interval, self._num_results, num, of)

    def _others(self, found: Found) -> np.ndarray:
        """Scores of results that are not the query itself; where it is not found, without the last.

        Queries that are no rows of the corpus have all their results.
        """
        if self._own is None:
            return found.scores
        is_own = found.rows == self._own[:, None]
        order = np.argsort(is_own, axis=1, kind="stable")[:, : found.rows.shape[1] - 1]
        return np.take_along_axis(found.scores, order, axis=1)


def usable_rows(vectors: Vectors, num: int, seed: int = 0) -> np.ndarray:
    """Return the numbers of some rows that are finite, drawn at random, ascending.

    Args:
        num: how many are drawn, at least 1, of which those are left out that are unusable; all, if
            there are fewer.
    """
    if num < 1:
        raise ValueError(f"num_queries must be at least 1, got {num}")
    files = files_of(vectors)
    total = num_rows(files)
    drawn = np.sort(np.random.default_rng(seed).choice(total, min(num, total), replace=False))
    return drawn[~np.isnan(lengths_of(Side("", files).rows(drawn)))]
