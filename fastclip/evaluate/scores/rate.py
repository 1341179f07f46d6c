"""Fractions of right answers, with confidence intervals.

Sources: `fastclip.confidence` (one rate); G. Y. Zou, W. Huang and X. Zhang 2009, "A note on
confidence interval estimation for a linear function of binomial proportions", CSDA 53 (a mean of
rates).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastclip.confidence import Interval, wilson


@dataclass(frozen=True)
class Rate:
    """The number of right answers among `n`, n >= 1.

    Attributes:
        hits: the number of right answers.
        n: the number of answers.
        ties: the number of answers that are wrong only because ties count against the model. If
            ties counted for the model, `hits + ties` answers would be right.
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
        """Wilson's 95 % confidence interval."""
        return wilson(self.hits, self.n)

    def to_dict(self) -> dict[str, Any]:
        """Return `hits`, `n`, `ties`, and Wilson's 95 % interval as `low` and `high`."""
        return {"hits": self.hits, "n": self.n, "ties": self.ties, **self.interval._asdict()}


def interval_of_mean(rates: Sequence[Rate]) -> Interval:
    """Return a 95 % confidence interval for the mean of one or more independent rates.

    The squares of the distances from each rate to the ends of its Wilson interval are added. For a
    single rate the result is Wilson's interval; for several rates with few answers each it is
    somewhat wider than necessary.
    """
    mean = sum(rate.value for rate in rates) / len(rates)
    below = math.hypot(*(rate.value - rate.interval.low for rate in rates)) / len(rates)
    above = math.hypot(*(rate.interval.high - rate.value for rate in rates)) / len(rates)
    return Interval(max(0.0, mean - below), min(1.0, mean + above))
