"""Groups of what is joined, directly or through others: connected components."""

import numpy as np


class Components:
    """Numbers from 0 on, each at first alone; joined, a group is named by its lowest number.

    Args:
        num: how many there are.

    Example:
        >>> groups = Components(4)
        >>> groups.join(np.array([3, 1]), np.array([1, 0]))
        >>> groups.names()
        array([0, 0, 2, 0])
    """

    def __init__(self, num: int) -> None:
        # Of each a lower number of its group, or itself.
        self._lower = np.arange(num)

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """Join (m,) numbers with (m,) others, pair by pair."""
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
