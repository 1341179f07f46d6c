"""Calibrate scores: estimate how many rows would score as high as a result by chance.

A score alone does not say whether there is a match. For a query q and the vectors x of a corpus,
with mean m and covariance C, the products q.x have

    mean mu = q.m,  variance sigma^2 = q^T C q,  z = (s - mu) / sigma,

and if the products were normal, n Q(z) of n vectors would score above s by chance. A result stands
out if fewer than `LIMIT` such rows are expected in a search. Unlike scores, these numbers can be
compared between queries, and between texts and images.

The tails of real corpora are not normal. `CaptionNull` therefore searches for many other queries,
for example captions, and compares a score with the best match of each:

    p = (1 + number of queries whose best match is at least as high) / (1 + number of queries),

which assumes only that the query is similar in kind to the others. If p is known, it decides which
results stand out.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastclip.embeddings.moments import Moments
from fastclip.search.corpus import Vectors
from fastclip.search.exact import search

LIMIT = 0.05  # at most one in twenty searches without a match has a result that stands out
FEWEST = 100  # vectors; with n vectors no z exceeds (n - 1) / sqrt(n), so too few tell nothing
SMALLEST_VARIANCE = 1e-12  # of products, relative to the mean square of lengths; less is rounding
NORMAL, CAPTIONS = "normal", "captions"


class CannotCalibrate(ValueError):
    """Scores cannot be calibrated; the message says why."""


@dataclass(frozen=True, eq=False)
class Normal:
    """Calibration that assumes that products with the vectors of a corpus are normal.

    Attributes:
        moments: the mean and covariance of the corpus.

    Raises:
        CannotCalibrate: there are fewer than `FEWEST` vectors, or some are not finite.

    Example:
        >>> images = open_embeddings("embeddings").images
        >>> z = Normal(images.moments).z(query, scores)
    """

    moments: Moments

    def __post_init__(self) -> None:
        if self.moments.count < FEWEST:
            raise CannotCalibrate(
                f"{self.moments.count:,} vectors are too few for a mean and a covariance; at "
                f"least {FEWEST} are needed"
            )
        if not np.isfinite(self.moments.sums).all():
            raise CannotCalibrate("the mean and covariance of the vectors are not finite")
        object.__setattr__(self, "_mean", self.moments.mean)
        object.__setattr__(self, "_covariance", self.moments.covariance)

    def z(self, query: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return by how many standard deviations (k,) scores of a (D,) query exceed the mean.

        Raises:
            CannotCalibrate: all vectors have the same product with the query, up to rounding.
        """
        query = np.asarray(query, np.float64)
        variance = float(query @ self._covariance @ query)
        scale = float(np.trace(self.moments.sums[1:])) / self.moments.count * float(query @ query)
        if not variance > SMALLEST_VARIANCE * scale:
            raise CannotCalibrate("all vectors are equally near to the query")
        return (np.asarray(scores, np.float64) - query @ self._mean) / math.sqrt(variance)

    def expected_hits(self, z: np.ndarray) -> np.ndarray:
        """Return the number of vectors expected above each z by chance: n Q(z)."""
        tails = [0.5 * math.erfc(value / math.sqrt(2)) for value in np.asarray(z).tolist()]
        return self.moments.count * np.array(tails, np.float64)


@dataclass(frozen=True, eq=False)
class CaptionNull:
    """The best scores of many other queries on the same corpus, as a null distribution.

    Attributes:
        best: (r,) float64, ascending.

    Example: the null distribution of a list of captions, encoded once.
        >>> null = CaptionNull.of(caption_features, embeddings.images)
        >>> p = null.p_values(scores)
    """

    best: np.ndarray

    @classmethod
    def of(cls, queries: np.ndarray, vectors: Vectors) -> "CaptionNull":
        """Search a corpus for the best match of each of (r, D) queries.

        Args:
            queries: (r, D) float32.
            vectors: the corpus; see `files_of`.

        Raises:
            CannotCalibrate: there are too few queries for any p to be below `LIMIT`, or there is no
                vector.
        """
        cls.require_enough(len(queries))
        found = search(queries, vectors, top=1)
        if found.scores.shape[1] == 0:
            raise CannotCalibrate("there are no vectors that other queries could find")
        return cls(np.sort(found.scores[:, 0].astype(np.float64)))

    @staticmethod
    def require_enough(num: int) -> None:
        """Raise CannotCalibrate if no p can be below `LIMIT` with only `num` queries."""
        if 1 / (1 + num) >= LIMIT:
            raise CannotCalibrate(
                f"{num} other queries are too few; at least {math.ceil(1 / LIMIT)} are needed"
            )

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return the p-value of each of (k,) scores."""
        scores = np.asarray(scores, np.float64)
        at_least = len(self.best) - np.searchsorted(self.best, scores, side="left")
        return (1 + at_least) / (1 + len(self.best))


@dataclass(frozen=True, eq=False)
class Judgement:
    """The calibration of the results of one query.

    Attributes:
        used: the method that decides which results stand out: "normal", "captions", or None if the
            scores cannot be calibrated.
        why_not: why z is not known; None if z is known.
        z, expected_hits, p_values: (k,) float64, or None if not known.
    """

    used: str | None
    why_not: str | None
    z: np.ndarray | None = None
    expected_hits: np.ndarray | None = None
    p_values: np.ndarray | None = None

    def stands_out(self, limit: float = LIMIT) -> np.ndarray | None:
        """Return (k,) bool: whether fewer than `limit` such results are expected by chance.

        Returns None if the scores cannot be calibrated.
        """
        by_chance = self.p_values if self.used == CAPTIONS else self.expected_hits
        return None if by_chance is None else by_chance < limit


def judge(
    query: np.ndarray,
    scores: np.ndarray,
    moments: Moments,
    captions: CaptionNull | None = None,
) -> Judgement:
    """Calibrate the scores of one query.

    Args:
        query: (D,) the vector of the query.
        scores: (k,) its scores.
        moments: the mean and covariance of the corpus.
        captions: the best scores of other captions; if given, they decide which results stand out,
            and z is returned as well.

    Example:
        >>> found = search(query[None], images, top=10)
        >>> judge(query, found.scores[0], images.moments).stands_out()
    """
    known: dict[str, Any] = {}
    why_not = None
    try:
        normal = Normal(moments)
        known["z"] = normal.z(query, scores)
        known["expected_hits"] = normal.expected_hits(known["z"])
    except CannotCalibrate as error:
        why_not = f"scores cannot be calibrated: {error}"
    used = NORMAL if why_not is None else None
    if captions is not None:
        known["p_values"], used = captions.p_values(scores), CAPTIONS
    return Judgement(used, why_not, **known)
