"""Which C, the inverse strength of the penalty, is best on images that are not trained on.

CLIP's search looks at values from 1e-6 to 1e6, of which there are 8 per decade. It begins with one
in two decades, and halves the distance around the best until it is one of the eight.

Source: Radford et al. 2021, arXiv:2103.00020, appendix A.3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastclip.evaluate.probe.fit import PATH_PRECISION, Fit
from fastclip.evaluate.probe.parts import Part
from fastclip.evaluate.probe.training import Training

CLIP_GRID = tuple(10 ** (-6 + i / 8) for i in range(97))
FIRST_STEP = 16


@dataclass(frozen=True)
class Tried:
    """How good one C was.

    Attributes:
        c: the value.
        accuracy: on the validation part, in [0, 1].
        iterations: steps of its fit, which began with that of a C near it.
        is_converged: whether that ended within its tolerance.
    """

    c: float
    accuracy: float
    iterations: int
    is_converged: bool


@dataclass(frozen=True)
class Choice:
    """The best C; of several that are as good, the smallest.

    Attributes:
        c: the value.
        is_at_end: it is the smallest or the largest of the range, beyond which may be better ones.
        tried: all that were tried, from the smallest; none where there was no choice.
    """

    c: float
    is_at_end: bool
    tried: tuple[Tried, ...] = ()


def checked_grid(c_grid: str | Sequence[float]) -> tuple[float, ...]:
    """Return distinct values in ascending order.

    Raises:
        ValueError: it is a text other than "clip", or holds no value, or one that is not above 0
            and finite.
    """
    if isinstance(c_grid, str):
        if c_grid != "clip":
            raise ValueError(f"c_grid must be 'clip' or values of C, got {c_grid!r}")
        return CLIP_GRID
    values = tuple(sorted({float(c) for c in c_grid}))
    if not values or not all(0 < c < float("inf") for c in values):
        raise ValueError(f"c_grid must hold finite values above 0, got {list(c_grid)}")
    return values


def choose_c(
    train: Part, validation: Part, grid: tuple[float, ...], num_classes: int, max_iter: int
) -> Choice:
    """Choose C by the accuracy of probes that are trained on one part, on another.

    Each fit begins with the one of the nearest smaller C that was fitted, or else of the nearest.

    Args:
        grid: of `checked_grid`. Of `CLIP_GRID` the search looks at 15 values at most, of another
            grid at all.
        max_iter: of each fit.
    """
    training = Training(train)
    fits: dict[int, Fit] = {}
    tried: dict[int, Tried] = {}

    def accuracy(place: int) -> float:
        near = min(fits, key=lambda other: (other > place, abs(other - place)), default=None)
        found = training.fit(grid[place], max_iter, PATH_PRECISION, fits.get(near))
        if grid is not CLIP_GRID:
            fits.clear()  # only the one before is needed
        fits[place] = found
        answers = training.answers(found, validation, range(num_classes))
        value = answers.metrics["acc1"]
        tried[place] = Tried(found.c, value, found.iterations, found.is_converged)
        return value

    if grid is CLIP_GRID:
        scores = search(accuracy, len(grid), FIRST_STEP)
    else:
        scores = {place: accuracy(place) for place in range(len(grid))}
    best = best_of(scores)
    return Choice(
        grid[best], best in (0, len(grid) - 1), tuple(tried[place] for place in sorted(tried))
    )


def search(score: Callable[[int], float], num: int, step: int) -> dict[int, float]:
    """Look for the best of `num` places: every `step`-th, then around the best at half the step.

    Args:
        score: called once with each place that is looked at, the first ones in ascending order.
        step: a power of two.

    Returns:
        The scores of the places that were looked at. If scores rise up to one place and fall
        behind it, that is the best of all.
    """
    scores = {place: score(place) for place in range(0, num, step)}
    while step := step // 2:
        best = best_of(scores)
        for place in (best - step, best + step):
            if 0 <= place < num and place not in scores:
                scores[place] = score(place)
    return scores


def best_of(scores: dict[int, float]) -> int:
    """The place of the highest score, the first of several."""
    return min(scores, key=lambda place: (-scores[place], place))
