"""Fractions of right answers, and how far from the truth such a number may be.

An interval of 95 % is one that a procedure gives which, over many samples of images, covers the
rate among all images of that kind 95 times in 100.

Sources: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference",
JASA 22 (one rate); G. Y. Zou, W. Huang and X. Zhang 2009, "A note on confidence interval estimation
for a linear function of binomial proportions", CSDA 53 (a mean of rates).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from statistics import NormalDist
from typing import Any, NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """From `low` to `high`, within [0, 1]."""

    low: float
    high: float


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's interval for a rate of which `hits` of `n` independent trials were right.

    It stays within [0, 1] and has a width at 0 and at `n` hits too.

    Args:
        hits: in [0, n].
        n: at least 1.
        confidence: in (0, 1).

    Raises:
        TypeError: `hits` or `n` is no integer.
        ValueError: one of the three is out of its range.

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
    """Return Wilson's interval where trials are partly right, so that `hits` is no whole number."""
    z = _quantile(confidence)
    center = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return Interval(
        0.0 if hits == 0 else max(0.0, center - half),
        1.0 if hits == n else min(1.0, center + half),
    )


@dataclass(frozen=True)
class Rate:
    """How many of `n` answers were right, 1 at least.

    Attributes:
        hits: right answers.
        n: answers.
        ties: answers that are wrong only because ties count against the model. If every tie went
            in its favour, `hits + ties` were right.
    """

    hits: int
    n: int
    ties: int = 0

    @property
    def value(self) -> float:
        """The fraction of right answers, in [0, 1]."""
        return self.hits / self.n

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval."""
        return wilson(self.hits, self.n)

    def to_dict(self) -> dict[str, Any]:
        """Return `hits`, `n`, `ties`, and Wilson's 95 % interval as `low` and `high`."""
        return {"hits": self.hits, "n": self.n, "ties": self.ties, **self.interval._asdict()}


def interval_of_mean(rates: Sequence[Rate]) -> Interval:
    """Return a 95 % interval for the mean of rates that are independent, 1 at least.

    The distances of each rate to the ends of Wilson's interval add up in squares. Of one rate it
    is Wilson's interval; of several with a few answers each it is somewhat wider than it need be.
    """
    mean = sum(rate.value for rate in rates) / len(rates)
    below = math.hypot(*(rate.value - rate.interval.low for rate in rates)) / len(rates)
    above = math.hypot(*(rate.interval.high - rate.value for rate in rates)) / len(rates)
    return Interval(max(0.0, mean - below), min(1.0, mean + above))


def _quantile(confidence: float) -> float:
    """Beyond which a standard normal number lies, on either side, with 1 - `confidence`."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
