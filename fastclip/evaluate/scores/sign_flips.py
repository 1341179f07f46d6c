"""Whether one of two models is better, of answers that come in groups, as captions of an image do.

Were the models equally good, the difference in a group would as well have had the other sign. So
the signs of all differences are flipped in every way, and the probability of a total at least as
far from 0 as the one that was found is counted. It is exact: totals are whole numbers, and groups
of one difference add a binomial number of them. Where every difference is 1 it is McNemar's test.

Sources: R. A. Fisher 1935, "The Design of Experiments", section 21 (the test, by enumeration);
M. Pagano and D. Tritchler 1983, "On obtaining permutation distributions in polynomial time",
JASA 78 (counting totals instead).
"""

import math

import numpy as np


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Return the two-sided p-value of (M,) integers, the differences of M groups.

    Cost: the number of groups that differ times the sum of their differences, in additions; memory
    of 8 bytes for each whole number up to that sum.

    Example:
        >>> sign_flip_p_value(np.array([2, 1, 0]))  # of 4 ways to set signs two are as far off
        0.5
    """
    sizes, numbers = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total = int((sizes * numbers).sum())
    # ways[t]: the probability that the differences which are positive add up to t.
    ways = np.ones(1)
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        wider = np.zeros(len(ways) + size * number)
        for positive, probability in enumerate(_binomial(number)):
            start = size * positive
            wider[start : start + len(ways)] += probability * ways
        ways = wider
    # Of `total`, what is not positive is negative.
    is_as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(int(differences.sum()))
    return min(1.0, float(ways[is_as_far].sum()))


def _binomial(number: int) -> list[float]:
    """The probabilities of 0 to `number` heads among as many tosses."""
    logs = [math.lgamma(i + 1) for i in range(number + 1)]
    base = logs[number] - number * math.log(2)
    return [math.exp(base - logs[i] - logs[number - i]) for i in range(number + 1)]
