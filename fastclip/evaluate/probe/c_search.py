"""Find the C, the inverse strength of the penalty, that is best on images not trained on.

CLIP's search covers the values from 1e-6 to 1e6, 8 per decade. It begins with every 16th value,
which is one per two decades, and halves the step around the best value until the step is one.

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
    """The accuracy of one value of C.

    Attributes:
        c: the value.
        accuracy: the accuracy on the validation part, in [0, 1].
        iterations: steps of the fit, which started from the fit of a nearby C.
        is_converged: whether the fit ended within its tolerance.
    """

    c: float
    accuracy: float
    iterations: int
    is_converged: bool


@dataclass(frozen=True)
class Choice:
    """The best C, or the smallest of several that are equally good.

    Attributes:
        c: the value.
        is_at_end: whether it is the smallest or the largest of the range, so that a better one may
            lie outside.
        tried: every value that was tried, in ascending order; empty if only one value was given.
    """

    c: float
    is_at_end: bool
    tried: tuple[Tried, ...] = ()


def checked_grid(c_grid: str | Sequence[float]) -> tuple[float, ...]:
    """Return the distinct values of C in ascending order.

    Raises:
        ValueError: `c_grid` is a text other than "clip", is empty, or has a value that is not
            finite and above 0.
    """
    if isinstance(c_grid, str):
        if c_grid != "clip":
            raise ValueError(f"c_grid must be 'clip' or a sequence of values of C, got {c_grid!r}")
        return CLIP_GRID
    values = tuple(sorted({float(c) for c in c_grid}))
    if not values or not all(0 < c < float("inf") for c in values):
        raise ValueError(f"c_grid must hold finite values above 0, got {list(c_grid)}")
    return values


def choose_c(
    train: Part, validation: Part, grid: tuple[float, ...], num_classes: int, max_iter: int
) -> Choice:
    """Choose the C whose probe, trained on `train`, has the best accuracy on `validation`.

    Each fit starts from the fit of the nearest smaller C, or else of the nearest C.

    Args:
        train: the images to train on.
        validation: the images to choose C on.
        grid: the values, from `checked_grid`. Of `CLIP_GRID` at most 15 values are tried, of any
            other grid all.
        num_classes: the number of classes.
        max_iter: the most steps of each fit.
    """
    training = Training(train)
    fits: dict[int, Fit] = {}
    tried: dict[int, Tried] = {}

    def accuracy(place: int) -> float:
        near = min(fits, key=lambda other: (other > place, abs(other - place)), default=None)
        found = training.fit(grid[place], max_iter, PATH_PRECISION, fits.get(near))
        if grid is not CLIP_GRID:
            fits.clear()  # only the previous fit is needed
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
    """Find the best of `num` places: try every `step`-th, then those around the best at half steps.

    Args:
        score: called once with each place that is tried, the first ones in ascending order.
        num: the number of places.
        step: a power of two.

    Returns:
        The scores of the places that were tried. If scores rise up to one place and fall after it,
        that place is among them.
    """
    scores = {place: score(place) for place in range(0, num, step)}
    while step := step // 2:
        best = best_of(scores)
        for place in (best - step, best + step):
            if 0 <= place < num and place not in scores:
                scores[place] = score(place)
    return scores


def best_of(scores: dict[int, float]) -> int:
    """Return the place of the highest score, or the first of several such places."""
    return min(scores, key=lambda place: (-scores[place], place))
