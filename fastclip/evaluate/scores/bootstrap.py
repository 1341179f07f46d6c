"""Confidence intervals of rates whose answers come in groups, such as the captions of one image.

Captions of the same image are found or missed together more often than captions of different
images, so that they tell less than as many independent captions. The bootstrap therefore draws
whole groups, each with all of its answers; the spread of the rate over such draws estimates the
uncertainty of the rate.

Source: B. Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7;
percentiles of draws of whole clusters.
"""

import numpy as np
import torch
from torch import Tensor

from fastclip.confidence import CONFIDENCE, Interval, wilson_of

RESAMPLES = 2000
SEED = 0
MAX_COUNTS = 2**22  # counts that are drawn at a time


def bootstrap_rates(
    hits: Tensor,
    answers: Tensor,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    confidence: float = CONFIDENCE,
) -> list[Interval]:
    """Return a confidence interval for each of R rates over the same M groups.

    Groups with equal counts are drawn together: their number in a draw is multinomial, so that the
    cost depends on the number of different groups, and not on M.

    Args:
        hits: (M, R) integers: right answers of each group, for each rate.
        answers: (M, R) integers: answers of each group; every column has an entry above 0.
        resamples: the number of draws of M groups.
        seed: the seed of the draws; the same seed gives the same intervals with the same numpy.
        confidence: the probability of the interval.

    Returns:
        R intervals. If all draws agree, as they do if all answers are right or all are wrong, they
        tell nothing about the spread; then the interval is Wilson's, with one answer per group.
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
