"""Cases by pairs are few, and lack no pair."""

from itertools import combinations, product

import pytest

from tests.support.pairwise import cover_pairs

PARAMETERS = [("ab", (0, 1), (False, True)), ("abcd", (1, 2), (3, 4)), (range(13), range(3), "ab"),
              (range(4), range(4), range(2), range(3), range(2))]  # fmt: skip


@pytest.mark.parametrize("parameters", PARAMETERS, ids=range(len(PARAMETERS)))
def test_every_two_values_of_two_parameters_meet(parameters):
    cases = cover_pairs(*parameters)
    for i, j in combinations(range(len(parameters)), 2):
        met = {(case[i], case[j]) for case in cases}
        assert met == set(product(parameters[i], parameters[j]))
    largest, second = sorted(map(len, parameters))[:-3:-1]
    assert largest * second <= len(set(cases)) == len(cases) <= 1.5 * largest * second


def test_cases_are_the_same_each_time():
    assert cover_pairs("ab", (0, 1), (False, True)) == [
        ("a", 0, False), ("a", 1, True), ("b", 0, True), ("b", 1, False)
    ]  # fmt: skip


def test_two_parameters_are_combined_in_full_and_one_as_it_is():
    assert cover_pairs("ab", [[0], [1]]) == [("a", [0]), ("a", [1]), ("b", [0]), ("b", [1])]


def test_a_pair_that_is_missing_would_be_seen():
    cases = cover_pairs("ab", (0, 1), (False, True))
    for gone in cases:
        left = {case[1:] for case in cases if case != gone}
        assert left != set(product((0, 1), (False, True)))
