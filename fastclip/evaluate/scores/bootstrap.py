"""Intervals of rates whose answers come in groups, such as the captions of one image.

Captions of one image are found or missed together more often than captions of several, so that
they tell less than as many independent ones. The bootstrap draws groups, not answers, and with
each its answers: the spread of the rate among such draws is that of the rate.

Source: B. Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7;
percentiles of draws of whole clusters.
"""

import numpy as np
import torch
from torch import Tensor

from fastclip.confidence import CONFIDENCE, Interval, wilson_of

RESAMPLES = 2000
SEED = 0
MAX_COUNTS = 2**22  # drawn at a time


def bootstrap_rates(
    hits: Tensor,
    answers: Tensor,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    confidence: float = CONFIDENCE,
) -> list[Interval]:
    """Return an interval for each of R rates of the same M groups.

    Groups that are alike are drawn together: their number in a draw is multinomial, so that the
    cost depends on how many different groups there are, and not on M.

    Args:
        hits: (M, R) integers, right answers of each group to each rate.
        answers: (M, R) integers, of which every column has one that is not 0.
        resamples: draws of M groups.
        seed: of the draws; the same one gives the same intervals with the same numpy.

    Returns:
        R intervals. Where all draws agree, as they do if all answers are right or none is, they
        say nothing of the spread: it is Wilson's interval then, of an answer for each group.
    """
    num_rates = hits.shape[1]
    kinds, num_of_kind = torch.cat([hits, answers], 1).unique(dim=0, return_counts=True)
    kinds, num_of_kind = kinds.double().numpy(), num_of_kind.double().numpy()
    generator = np.random.default_rng(seed)
    rates, done = [], 0
    while done < resamples:
        num = min(resamples - done, max(1, MAX_COUNTS // len(kinds)))
        drawn = generator.multinomial(len(hits), num_of_kind / len(hits), size=num) @ kinds
        with np.errstate(invalid="ignore"):  # a draw without any answer
            rates.append(drawn[:, :num_rates] / drawn[:, num_rates:])
        done += num
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(rates), [tail, 1 - tail], axis=0)
    values = hits.sum(0) / answers.sum(0).double()
    groups = (answers > 0).sum(0)
    return [
        Interval(float(a), float(b)) if a < b else wilson_of(value * num, num, confidence)
        for a, b, value, num in zip(low, high, values.tolist(), groups.tolist(), strict=True)
    ]
