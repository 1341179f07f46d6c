"""The search for C, on curves whose best value is known."""

import math
import random
from itertools import pairwise

import pytest

from fastclip.evaluate.probe.c_search import CLIP_GRID, FIRST_STEP, checked_grid, search


def best(scores):
    return max(scores, key=scores.get)


def test_the_grid_of_the_paper_has_8_values_per_decade_and_7_to_begin_with():
    assert len(CLIP_GRID) == 97 and (CLIP_GRID[0], CLIP_GRID[-1]) == (1e-6, 1e6)
    ratios = {round(b / a, 9) for a, b in pairwise(CLIP_GRID)}
    assert ratios == {round(10 ** (1 / 8), 9)}
    first = CLIP_GRID[::FIRST_STEP]
    assert first == pytest.approx([1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6], rel=1e-12)


def test_the_search_finds_the_best_of_any_curve_that_rises_and_falls():
    for seed in range(60):
        generator = random.Random(seed)
        peak = generator.randrange(97)
        steps = sorted(generator.random() for _ in range(97))
        curve = [-steps[abs(place - peak)] for place in range(97)]
        seen = []
        scores = search(lambda place: seen.append(place) or curve[place], 97, FIRST_STEP)  # noqa: B023
        assert best(scores) == peak
        assert len(seen) == len(set(seen)) == len(scores) <= 15
        assert seen[:7] == list(range(0, 97, 16))


def test_of_equal_values_the_smallest_is_best():
    scores = search(lambda place: min(place, 50), 97, FIRST_STEP)
    assert min(p for p, s in scores.items() if s == max(scores.values())) == 50


def test_grids_are_sorted_and_distinct():
    assert checked_grid([1, 0.1, 1.0]) == (0.1, 1.0)
    assert checked_grid("clip") is CLIP_GRID


@pytest.mark.parametrize("c_grid", ["clop", [], [0.0], [-1, 1], [math.nan], [math.inf]])
def test_grids_are_refused(c_grid):
    with pytest.raises(ValueError, match="c_grid must"):
        checked_grid(c_grid)
