"""The linear probe of CLIP: logistic regression on features, with C chosen on a validation part."""

from collections.abc import Sequence

from torch import Tensor

from fastclip.evaluate.probe.c_search import checked_grid
from fastclip.evaluate.probe.parts import Part, checked_part, divided
from fastclip.evaluate.probe.protocol import (
    MAX_ITER,
    check_settings,
    checked_others,
    chosen,
    names_of,
    trained_and_tested,
)
from fastclip.evaluate.probe.result import LinearProbe

VALIDATION_FRACTION = 0.2


def linear_probe(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    c_grid: str | Sequence[float] = "clip",
    feature: str = "embedding",
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    max_iter: int = MAX_ITER,
) -> LinearProbe:
    """Train a linear classifier on features and test it, by the protocol of CLIP.

    Probes are trained on `train` with several values of C, and the C with the best accuracy on
    `validation` is chosen. The probe that is tested is then trained on both parts together, from
    the start. The objective is scikit-learn's `LogisticRegression`, with the same minimum:

        C * sum of cross entropies + 1/2 ||W||^2        without a penalty on the intercept

    Features are used as they are: CLIP's own code neither centers them nor makes them unit rows.

    Args:
        train: (N, D) floating point features, finite, and (N,) integer labels of at least two
            classes.
        test: features and labels of the images to test. Images whose features are not finite, and
            images of classes that `train` lacks, are counted as wrong.
        validation: features and labels of the images on which C is chosen. By default a fifth of
            each class of `train` is split off, and the result says so.
        c_grid: "clip" for the search of the paper, which tries 15 of 97 values from 1e-6 to 1e6;
            or values of C, which are all tried. With a single value there is no choice, and
            `validation`, if given, is trained on like the rest.
        feature: which features of the image tower these are, "embedding" or "before_projection",
            for the result. The paper uses the latter for vision transformers.
        class_names: C names, for the result. By default classes have numbers, up to the largest
            label.
        seed: the seed of the split.
        max_iter: the most steps of L-BFGS in a fit. A probe that has not converged by then is
            tested nevertheless, with a warning.

    Returns:
        `metrics` under CLIP_benchmark's names, intervals, C, and the probe itself. A warning is
        issued if the best C is at an end of the range.

    Raises:
        TypeError: features are not floating point, or labels are not integers.
        ValueError: shapes do not fit, a number is out of range, features to train on are not
            finite, or there are too few images to split.

    Cost: 4 N K D FLOPs per step for K classes, in float64 on the device of `train`; memory for the
    features as they are, a few (K, D), and a few blocks of 32 MiB.

    Example:
        >>> found = fastclip.evaluate.linear_probe((features, labels), (test_features, test_labels))
        >>> found.metrics["lp_acc1"], found.choice.c
    """
    check_settings(feature, max_iter)
    grid = checked_grid(c_grid)
    given = checked_part("train", train, class_names)
    tested, held = checked_others(given, test, validation, class_names)
    names = names_of(class_names, (given, tested, held))
    origin, parts = "given", (given, held)
    if held is None:
        origin, parts = "none: there is one value of C", (given, None)
        if len(grid) > 1:
            origin, parts = _split(given, seed)
    choice = chosen(*parts, grid, len(names), max_iter)
    whole = given if held is None else given.with_(held)
    return trained_and_tested(
        whole, tested, choice, names, feature, origin,
        0 if parts[1] is None else len(parts[1].labels), max_iter,
    )  # fmt: skip


def _split(given: Part, seed: int) -> tuple[str, tuple[Part, Part]]:
    parts = divided(given, VALIDATION_FRACTION, seed)
    if len(parts[1].labels) == 0:
        raise ValueError(
            f"train has too few images of each class to split off {VALIDATION_FRACTION:.0%} for "
            f"validation ({len(given.labels)} images in all): give validation=, or one value as "
            "c_grid"
        )
    return f"split from train: {VALIDATION_FRACTION:.0%} of each class, seed {seed}", parts
