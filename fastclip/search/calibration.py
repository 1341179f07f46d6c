"""How many hits chance gives: a score alone does not say whether there is a match.

For a query q and the vectors x of a corpus, with mean m and covariance C, products q.x have

    mean mu = q.m,  variance sigma^2 = q^T C q,  z = (s - mu) / sigma,

and if they were normal, n Q(z) of n vectors would score above s by chance. What stands out is what
chance is expected to give less than `LIMIT` times in a search. Numbers carry over from query to
query and between texts and images, which scores do not.

The tails of real corpora are not normal. `CaptionNull` therefore asks many other queries, captions
for example, and compares with the best match of each: a score has

    p = (1 + number of those that are at least as high) / (1 + number of those queries),

which assumes only that the query is one like those. Where it is there, it decides.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastclip.embeddings.moments import Moments
from fastclip.search.corpus import Vectors
from fastclip.search.exact import search

LIMIT = 0.05  # of searches without a match, one in twenty has something that stands out
FEWEST = 100  # vectors: of n, no z is above (n - 1) / sqrt(n), so that a few tell nothing
SMALLEST_VARIANCE = 1e-12  # of products, relative to the mean square of lengths: rounding
NORMAL, CAPTIONS = "normal", "captions"


class CannotCalibrate(ValueError):
    """Nothing can be said of chance; the message says why."""


@dataclass(frozen=True, eq=False)
class Normal:
    """Products with the vectors of a corpus, taken to be normal.

    Attributes:
        moments: of the corpus.

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
                f"{self.moments.count:,} vectors are too few for a mean and a covariance: it "
                f"takes {FEWEST}"
            )
        if not np.isfinite(self.moments.sums).all():
            raise CannotCalibrate("the mean and covariance of the vectors are not finite")
        object.__setattr__(self, "_mean", self.moments.mean)
        object.__setattr__(self, "_covariance", self.moments.covariance)

    def z(self, query: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return by how many standard deviations (k,) scores of a (D,) query are above the mean.

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
        """Return how many vectors of the corpus are expected above each z by chance: n Q(z)."""
        tails = [0.5 * math.erfc(value / math.sqrt(2)) for value in np.asarray(z).tolist()]
        return self.moments.count * np.array(tails, np.float64)


@dataclass(frozen=True, eq=False)
class CaptionNull:
    """The best scores of many other queries on the same corpus.

    Attributes:
        best: (r,) float64, ascending.

    Example: the null of a list of captions, encoded once.
        >>> null = CaptionNull.of(caption_features, embeddings.images)
        >>> p = null.p_values(scores)
    """

    best: np.ndarray

    @classmethod
    def of(cls, queries: np.ndarray, vectors: Vectors) -> "CaptionNull":
        """Search a corpus, see `files_of`, for the best match of each of (r, D) queries.

        Raises:
            CannotCalibrate: there are too few queries for any p to be below `LIMIT`, or no vector.
        """
        cls.require_enough(len(queries))
        found = search(queries, vectors, top=1)
        if found.scores.shape[1] == 0:
            raise CannotCalibrate("there are no vectors that other queries could find")
        return cls(np.sort(found.scores[:, 0].astype(np.float64)))

    @staticmethod
    def require_enough(num: int) -> None:
        """Raise CannotCalibrate if with so many queries no p is below `LIMIT`."""
        if 1 / (1 + num) >= LIMIT:
            raise CannotCalibrate(
                f"{num} other queries are too few: it takes {math.ceil(1 / LIMIT)}"
            )

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return p of each of (k,) scores."""
        scores = np.asarray(scores, np.float64)
        at_least = len(self.best) - np.searchsorted(self.best, scores, side="left")
        return (1 + at_least) / (1 + len(self.best))


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is known of chance for the results of one query.

    Attributes:
        used: what decides what stands out: "normal", "captions", or None if nothing can be said.
        why_not: why z is not known; None if it is.
        z, expected_hits, p_values: (k,) float64; None of what is not known.
    """

    used: str | None
    why_not: str | None
    z: np.ndarray | None = None
    expected_hits: np.ndarray | None = None
    p_values: np.ndarray | None = None

    def stands_out(self, limit: float = LIMIT) -> np.ndarray | None:
        """Return (k,) bool: of which results chance gives less than `limit` in a search.

        None if nothing can be said.
        """
        by_chance = self.p_values if self.used == CAPTIONS else self.expected_hits
        return None if by_chance is None else by_chance < limit


def judge(
    query: np.ndarray,
    scores: np.ndarray,
    moments: Moments,
    captions: CaptionNull | None = None,
) -> Judgement:
    """Judge (k,) scores of a (D,) query.

    Args:
        moments: of the corpus.
        captions: if there are any, they decide, and z stands beside them.

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
