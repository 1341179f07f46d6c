"""Compute a median of ratios and its 95 % interval, without assuming a distribution.

    two runs    all ratios b_j / a_i of a round of B and a round of A; their median is the estimate
                of Hodges and Lehmann, and the interval is Moses' interval from the rank-sum test
    one run     the ratio within each round; the interval has the ranks of the sign test

Both assume that rounds are independent. If something slows a machine for longer than a round, no
interval shows it; it shows only between runs.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

CONFIDENCE = 0.95
LEAST_BETWEEN, LEAST_WITHIN = 4, 6  # rounds of each of two runs, and of one run
Z = 1.959964  # of the normal distribution, two-sided


class Interval(NamedTuple):
    """A ratio with its interval; `low` and `high` are -inf and inf if there are too few rounds."""

    ratio: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


def between_runs(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return the ratio of `after` to `before`, rounds of two runs, at least four of each.

    With fewer rounds of one run there is no interval, however many the other has: the ranks come
    from the normal distribution, which the rank-sum statistic of so few rounds does not follow.

    Example:
        >>> between_runs([1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0])
        Interval(ratio=2.0, low=2.0, high=2.0)
    """
    m, n = len(before), len(after)
    ratios = sorted(b / a for a in before for b in after)
    if min(m, n) < LEAST_BETWEEN:
        return _of_ranks(ratios, rank=0)
    rank = math.floor(m * n / 2 - Z * math.sqrt(m * n * (m + n + 1) / 12))
    return _of_ranks(ratios, rank)


def within_run(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return the ratio of `after` to `before` within rounds, of which there must be six.

    Example:
        >>> within_run([1.0, 3.0, 1.0, 2.0, 1.0, 1.0], [2.0, 6.0, 2.0, 4.0, 2.0, 2.0])
        Interval(ratio=2.0, low=2.0, high=2.0)
    """
    ratios = sorted(b / a for a, b in zip(before, after, strict=True))
    return _of_ranks(ratios, _sign_rank(len(ratios)))


def _of_ranks(ratios: list[float], rank: int) -> Interval:
    """Return the interval from the rank-th smallest to the rank-th largest ratio."""
    if rank < 1:
        return Interval(median(ratios), -math.inf, math.inf)
    return Interval(median(ratios), ratios[rank - 1], ratios[-rank])


def _sign_rank(num_rounds: int) -> int:
    """Return the largest rank whose interval holds the median with CONFIDENCE; 0 if there is none.

    P(rank-th smallest > median) = P(fewer than `rank` of the tosses are heads).
    """
    tail, rank = 0.0, 0
    for heads in range(num_rounds):
        tail += math.comb(num_rounds, heads) / 2**num_rounds
        if 2 * tail > 1 - CONFIDENCE:
            break
        rank = heads + 1
    return rank
