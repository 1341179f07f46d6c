"""Test whether one of two models is better when answers come in groups, as captions of images do.

If the models were equally good, the difference within each group would have either sign with the
same probability. The p-value is the fraction of all ways to flip the signs of the differences whose
total is at least as far from 0 as the observed total. It is exact: totals are integers, and the
number of positive signs among groups with the same difference is binomial. If every difference is
1, the test equals McNemar's test.

Sources: R. A. Fisher 1935, "The Design of Experiments", section 21 (the test, by enumeration);
M. Pagano and D. Tritchler 1983, "On obtaining permutation distributions in polynomial time",
JASA 78 (counting totals instead).
"""

import math

import numpy as np


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Return the two-sided p-value of (M,) integers, the differences of M groups.

    Cost: as many additions as the number of groups with a difference times the sum of the absolute
    differences; 8 bytes of memory for each integer up to that sum.

    Example:
        >>> sign_flip_p_value(np.array([2, 1, 0]))  # 2 of 4 ways to set the signs are as far off
        0.5
    """
    sizes, numbers = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total = int((sizes * numbers).sum())
    # ways[t]: the probability that the positive differences add up to t.
    ways = np.ones(1)
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        wider = np.zeros(len(ways) + size * number)
        for positive, probability in enumerate(_binomial(number)):
            start = size * positive
            wider[start : start + len(ways)] += probability * ways
        ways = wider
    # If the positive differences add up to t, the negative ones add up to t - total.
    is_as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(int(differences.sum()))
    return min(1.0, float(ways[is_as_far].sum()))


def _binomial(number: int) -> list[float]:
    """Return the probabilities of 0 to `number` heads in `number` tosses."""
    logs = [math.lgamma(i + 1) for i in range(number + 1)]
    base = logs[number] - number * math.log(2)
    return [math.exp(base - logs[i] - logs[number - i]) for i in range(number + 1)]
