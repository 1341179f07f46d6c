"""Intervals hold the median as often as they say, and refuse where rounds are too few."""

import math
import random

import pytest

from fastclip.benchmarks.compare.intervals import between_runs, within_run


def rounds(random_numbers, num_rounds, scale=1.0):
    """Times of a machine that is late now and then: skewed, with a median of `scale`."""
    return [scale * math.exp(0.1 * random_numbers.gauss(0, 1) ** 3) for _ in range(num_rounds)]


@pytest.mark.parametrize(("m", "n", "rank"), [(4, 4, 1), (5, 5, 3), (10, 10, 24), (8, 6, 9)])
def test_ranks_between_runs_are_those_of_tables(m, n, rank):
    """Moses' interval of 95 % in tables of the rank-sum test has the rank-th of all ratios."""
    before = [1.0 + 0.01 * i for i in range(m)]
    after = [2.0 + 0.05 * j for j in range(n)]
    ratios = sorted(b / a for a in before for b in after)
    found = between_runs(before, after)
    assert found.low in (ratios[rank - 1], ratios[rank - 2])  # tables round towards wider
    assert found.high in (ratios[-rank], ratios[1 - rank])
    assert found.low <= found.ratio <= found.high


@pytest.mark.parametrize(("rounds_of_each", "rank"), [(6, 1), (9, 2), (12, 3), (20, 6), (25, 8)])
def test_ranks_within_a_run_are_those_of_the_sign_test(rounds_of_each, rank):
    after = [1.0 + 0.01 * i for i in range(rounds_of_each)]
    found = within_run([1.0] * rounds_of_each, after)
    assert (found.low, found.high) == (after[rank - 1], after[-rank])


@pytest.mark.parametrize("interval_of", [between_runs, within_run])
def test_intervals_hold_the_true_ratio_in_95_of_100_runs(interval_of):
    numbers, true, num_runs = random.Random(0), 1.1, 400
    held = 0
    for _ in range(num_runs):
        found = interval_of(rounds(numbers, 15), rounds(numbers, 15, true))
        held += found.low <= true <= found.high
    assert 0.92 <= held / num_runs <= 0.985


@pytest.mark.parametrize(("interval_of", "num_rounds"), [(between_runs, 3), (within_run, 5)])
def test_too_few_rounds_have_no_interval(interval_of, num_rounds):
    found = interval_of([1.0] * num_rounds, [2.0] * num_rounds)
    assert found.ratio == 2.0 and not found.is_known


@pytest.mark.parametrize(("m", "n", "is_known"), [(3, 20, False), (20, 3, False), (4, 20, True)])
def test_four_rounds_of_each_run_are_the_least_however_many_the_other_has(m, n, is_known):
    assert between_runs([1.0] * m, [2.0] * n).is_known == is_known


def test_a_machine_that_slows_with_both_does_not_move_a_ratio_within_rounds():
    before = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert within_run(before, [1.25 * x for x in before]) == (1.25, 1.25, 1.25)
