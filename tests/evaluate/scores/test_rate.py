"""Intervals of rates, against scipy and by their coverage."""

import math

import pytest
import torch
from scipy.stats import binomtest

from fastclip.evaluate.scores.rate import Rate, interval_of_mean, wilson


@pytest.mark.parametrize(
    "hits, n, confidence",
    [
        (0, 1, 0.95),
        (1, 1, 0.95),
        (0, 50, 0.9),
        (50, 50, 0.99),
        (7, 23, 0.95),
        (31_337, 50_000, 0.5),
    ],
)
def test_wilson_is_scipys(hits, n, confidence):
    expected = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    found = wilson(hits, n, confidence)
    assert found == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert 0 <= found.low <= hits / n <= found.high <= 1 and found.low < found.high
    assert found.low == 0 if hits == 0 else found.low > 0
    assert found.high == 1 if hits == n else found.high < 1


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((5, 4), ValueError, "got 5 of 4"),
        ((-1, 4), ValueError, "got -1 of 4"),
        ((0, 0), ValueError, "got 0 of 0"),
        ((1, 2, 1.0), ValueError, "confidence must be in"),
        ((0.5, 2), TypeError, "integer"),
    ],
)
def test_wilson_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        wilson(*arguments)


def test_a_rate_says_its_counts_and_how_ties_would_change_it():
    rate = Rate(30, 40, ties=4)
    assert rate.value == 0.75 and rate.interval == wilson(30, 40)
    low, high = wilson(30, 40)
    assert rate.to_dict() == {"hits": 30, "n": 40, "ties": 4, "low": low, "high": high}


def test_the_interval_of_one_rate_is_wilsons_and_of_more_it_narrows():
    assert interval_of_mean([Rate(3, 9)]) == pytest.approx(wilson(3, 9))
    one, four = (interval_of_mean([Rate(3, 9)] * num) for num in (1, 4))
    assert four.high - four.low == pytest.approx((one.high - one.low) / 2)
    assert interval_of_mean([Rate(5, 5)] * 3).high == 1
    assert 1 - interval_of_mean([Rate(5, 5)] * 4).low == pytest.approx((1 - wilson(5, 5).low) / 2)


@pytest.mark.parametrize("times, too_often", [(1, 0.03), (20, 0.005)])
def test_the_interval_of_a_mean_covers_it_as_often_as_it_says(times, too_often):
    truth = torch.tensor([0.05, 0.3, 0.6, 0.9, 0.97])
    trials = times * torch.tensor([12.0, 20, 30, 15, 25])
    generator, covered, draws = torch.Generator().manual_seed(0), 0, 1000
    for _ in range(draws):
        hits = torch.binomial(trials, truth, generator=generator)
        counts = torch.stack([hits, trials], 1).int().tolist()
        low, high = interval_of_mean([Rate(*both) for both in counts])
        covered += low <= truth.mean().item() <= high
    spread = math.sqrt(0.95 * 0.05 / draws)
    assert -3 * spread < covered / draws - 0.95 < too_often + 3 * spread
