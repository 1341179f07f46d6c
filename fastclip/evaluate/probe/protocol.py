"""The steps of CLIP's protocol: check the parts, choose C, train a probe and test it."""

import warnings
from collections.abc import Sequence
from typing import Any

from fastclip.evaluate.probe.c_search import Choice, choose_c
from fastclip.evaluate.probe.fit import PRECISION
from fastclip.evaluate.probe.parts import Part, checked_part
from fastclip.evaluate.probe.result import LinearProbe
from fastclip.evaluate.probe.training import Training
from fastclip.evaluate.scores.classified import Name

FEATURES = ("embedding", "before_projection")
MAX_ITER = 1000  # as in CLIP's own code


def check_settings(feature: str, max_iter: int) -> None:
    """Check the settings of a probe.

    Raises:
        ValueError: `feature` is not in `FEATURES`, or `max_iter` < 1.
    """
    if feature not in FEATURES:
        raise ValueError(f"feature must be one of {', '.join(FEATURES)}, got {feature!r}")
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}")


def checked_others(
    train: Part, test: Any, validation: Any, class_names: Sequence[str] | None
) -> tuple[Part, Part | None]:
    """Check the parts to test and to validate, and move them to the device of `train`."""
    width, device = train.features.shape[1], train.features.device
    tested = checked_part("test", test, class_names, width)
    tested = tested._replace(features=tested.features.to(device))
    if validation is None:
        return tested, None
    held = checked_part("validation", validation, class_names, width)
    return tested, held._replace(features=held.features.to(device))


def names_of(class_names: Sequence[str] | None, parts: Sequence[Part | None]) -> Sequence[Name]:
    """Return the names of all classes, or their numbers up to the largest label."""
    if class_names is not None:
        return list(class_names)
    return range(1 + max(int(part.labels.max()) for part in parts if part is not None))


def chosen(
    train: Part, validation: Part | None, grid: tuple[float, ...], num_classes: int, max_iter: int
) -> Choice:
    """Return the best C of a grid, with a warning if it is at an end of the grid."""
    if len(grid) == 1:
        return Choice(grid[0], False)
    choice = choose_c(train, validation, grid, num_classes, max_iter)
    if choice.is_at_end:
        warnings.warn(
            f"the best C, {choice.c:g}, is at the end of the range from {grid[0]:g} to "
            f"{grid[-1]:g}; a better C may lie outside the range (c_grid)",
            stacklevel=3,
        )
    return choice


def trained_and_tested(
    train: Part,
    test: Part,
    choice: Choice,
    class_names: Sequence[Name],
    feature: str,
    validation: str,
    num_validation: int,
    max_iter: int,
) -> LinearProbe:
    """Fit a probe with the chosen C from the start, and classify the test images with it."""
    training = Training(train)
    fit = training.fit(choice.c, max_iter, PRECISION)
    if not fit.is_converged:
        advice = (
            "Allow more steps with max_iter" if fit.iterations >= max_iter
            else "More steps would not help; a smaller C would"
        )  # fmt: skip
        warnings.warn(
            f"the probe with C = {fit.c:g} has not converged in {fit.iterations} steps; its "
            f"gradient is {fit.gradient:.1e} times the gradient at the start. {advice}",
            stacklevel=3,
        )
    untrained = sorted(set(test.labels.tolist()) - set(training.classes.tolist()))
    return LinearProbe(
        training.answers(fit, test, class_names), *training.classifier(fit, len(class_names)),
        choice, fit, feature, training.num_images, validation, num_validation,
        tuple(class_names[i] for i in untrained),
    )  # fmt: skip
