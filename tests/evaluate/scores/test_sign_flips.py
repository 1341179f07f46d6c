"""The exact sign-flip test, against all ways to set signs, and McNemar's where it is that."""

from itertools import product

import numpy as np
import pytest

from fastclip.evaluate import compare
from fastclip.evaluate.scores.sign_flips import sign_flip_p_value


def by_enumeration(differences):
    sums = [np.dot(signs, differences) for signs in product((-1, 1), repeat=len(differences))]
    return np.mean(np.abs(sums) >= abs(sum(differences)))


@pytest.mark.parametrize(
    "differences",
    [[2, 1, 0], [0, 0], [5], [-3, 3], [5, -1, 2, 2, 0, -1, 3], [1, 1, 1, -1, 4, -2, -2, 5, 1, 3]],
)
def test_it_counts_all_ways_to_set_signs(differences):
    found = sign_flip_p_value(np.array(differences))
    assert found == pytest.approx(by_enumeration(differences), rel=1e-12)
    assert sign_flip_p_value(-np.array(differences)) == found


@pytest.mark.parametrize("only_a, only_b", [(0, 6), (13, 12), (40, 71), (1500, 1620)])
def test_of_differences_of_one_it_is_mcnemars_test(only_a, only_b):
    a = [True] * only_a + [False] * only_b
    differences = np.array([-1] * only_a + [1] * only_b)
    expected = compare(a, [not value for value in a]).p_value
    assert sign_flip_p_value(differences) == pytest.approx(expected, rel=1e-9)
