"""Fractions of right answers, and how far from the truth such a number may be.

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
