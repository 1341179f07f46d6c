"""Mean and covariance of vectors, from sums that can be added over files and shards."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Moments:
    """The sums of vectors x and of their products x x^T.

    Attributes:
        count: the number of vectors.
        sums: (D + 1, D) float64: the sum of x in the first row, the sum of x x^T below it.

    Example:
        >>> Moments.of(np.eye(2, dtype=np.float32)).mean
        array([0.5, 0.5])
    """

    count: int
    sums: np.ndarray

    @classmethod
    def none(cls, dim: int) -> "Moments":
        """Return the moments of an empty set of vectors of `dim` entries."""
        return cls(0, np.zeros((dim + 1, dim)))

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Moments":
        """Return the moments of (n, D) float32 vectors."""
        exact = vectors.astype(np.float64)
        return cls(len(exact), np.vstack([exact.sum(axis=0), exact.T @ exact]))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.sums + other.sums)

    @property
    def mean(self) -> np.ndarray:
        """(D,) float64; nan if there is no vector."""
        with _nan_without_warning():
            return self.sums[0] / np.float64(self.count)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D) float64, of the vectors as a population: divided by their count."""
        with _nan_without_warning():
            return self.sums[1:] / np.float64(self.count) - np.outer(self.mean, self.mean)


def _nan_without_warning() -> Any:
    return np.errstate(invalid="ignore")
