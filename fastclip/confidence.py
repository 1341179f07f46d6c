"""Confidence intervals for a fraction that was measured in some trials.

A 95 % interval comes from a procedure whose intervals, over many samples, contain the true fraction
95 times in 100.

Source: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference",
JASA 22.
"""

import math
from operator import index
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A confidence interval from `low` to `high`, within [0, 1]."""

    low: float
    high: float


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's interval for a rate, given `hits` successes in `n` independent trials.

    The interval stays within [0, 1], and has a positive width at 0 and at `n` hits too.

    Args:
        hits: in [0, n].
        n: at least 1.
        confidence: in (0, 1).

    Raises:
        TypeError: `hits` or `n` is not an integer.
        ValueError: an argument is out of its range.

    Example:
        >>> low, high = fastclip.evaluate.wilson(98, 100)
        >>> round(low, 3), round(high, 3)
        (0.93, 0.994)
    """
    hits, n = index(hits), index(n)
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"hits must be in [0, n] and n at least 1, got {hits} of {n}")
    return wilson_of(hits, n, confidence)


def wilson_of(hits: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's interval where a trial may be partly right, so that `hits` may be fractional.

    A score within [0, 1] varies no more than a trial that is right or wrong with the same mean, so
    the interval is at least as wide as it needs to be.
    """
    z = _quantile(confidence)
    center = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return Interval(
        0.0 if hits == 0 else max(0.0, center - half),
        1.0 if hits == n else min(1.0, center + half),
    )


def _quantile(confidence: float) -> float:
    """Return z such that a standard normal number is within [-z, z] with this probability."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
