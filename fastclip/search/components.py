"""Connected components: groups of numbers that are joined directly or through others."""

import numpy as np


class Components:
    """Groups of the numbers from 0 to `num` - 1, each alone at first.

    The name of a group is its lowest number.

    Args:
        num: how many numbers there are.

    Example:
        >>> groups = Components(4)
        >>> groups.join(np.array([3, 1]), np.array([1, 0]))
        >>> groups.names()
        array([0, 0, 2, 0])
    """

    def __init__(self, num: int) -> None:
        # For each number a lower number of its group, or itself.
        self._lower = np.arange(num)

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """Join the groups of (m,) numbers with the groups of (m,) others, pair by pair."""
        while len(left):
            left, right = self._names_of(left), self._names_of(right)
            differ = left != right
            left, right = left[differ], right[differ]
            np.minimum.at(self._lower, np.maximum(left, right), np.minimum(left, right))

    def names(self) -> np.ndarray:
        """Return (num,) int64: the name of each number's group."""
        self._lower = self._names_of(self._lower)
        return self._lower.copy()

    def _names_of(self, numbers: np.ndarray) -> np.ndarray:
        while True:
            lower = self._lower[numbers]
            if np.array_equal(lower, numbers):
                return numbers
            numbers = lower
