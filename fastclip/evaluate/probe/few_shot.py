"""Linear probes that are trained on k images of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from statistics import mean, stdev
from typing import Any

from torch import Tensor

from fastclip.evaluate.probe.c_search import checked_grid
from fastclip.evaluate.probe.parts import Part, checked_part, place_in_class
from fastclip.evaluate.probe.protocol import (
    MAX_ITER,
    check_settings,
    checked_others,
    chosen,
    names_of,
    trained_and_tested,
)
from fastclip.evaluate.probe.result import PROTOCOL, LinearProbe

SHOTS = (1, 2, 4, 8, 16)
C = 0.316  # as in the example of CLIP's README


@dataclass(frozen=True, eq=False)
class Shot:
    """One probe, the number of its training images of each class, and the seed of their draw."""

    shots: int
    seed: int
    probe: LinearProbe


@dataclass(frozen=True, eq=False)
class FewShot:
    """The probes of all numbers of images and all seeds, ordered by number, then by seed."""

    probes: tuple[Shot, ...]
    feature: str

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of images per class, ascending."""
        return tuple(sorted({shot.shots for shot in self.probes}))

    def values(self, shots: int, metric: str = "lp_acc1") -> list[float | None]:
        """Return one metric of the probes with `shots` images of each class, in order of seeds.

        Args:
            shots: the number of images of each class.
            metric: a name in `LinearProbe.metrics`.
        """
        return [shot.probe.metrics[metric] for shot in self.probes if shot.shots == shots]

    def to_dict(self) -> dict[str, Any]:
        """Return the results as values of strict JSON.

        Returns:
            `protocol`, `feature`; `summary`, a list with `fewshot_k`, `seeds`, and for each metric
            its `mean`, `deviation` over seeds (None for one seed), `min` and `max`; and `probes`, a
            list with `fewshot_k`, `seed`, and the entries of `LinearProbe.to_dict` except
            `per_class`.
        """
        return {
            "protocol": PROTOCOL,
            "feature": self.feature,
            "summary": [self._summary(shots) for shots in self.shots],
            "probes": [
                {"fewshot_k": shot.shots, "seed": shot.seed, **_without_classes(shot.probe)}
                for shot in self.probes
            ],
        }

    def _summary(self, shots: int) -> dict[str, Any]:
        found: dict[str, Any] = {"fewshot_k": shots, "seeds": len(self.values(shots))}
        for metric in self.probes[0].probe.metrics:
            values = [value for value in self.values(shots, metric) if value is not None]
            found[metric] = (values and {
                "mean": mean(values),
                "deviation": stdev(values) if len(values) > 1 else None,
                "min": min(values),
                "max": max(values),
            }) or None  # fmt: skip
        return found


def few_shot(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    shots: Sequence[int] = SHOTS,
    seeds: int = 3,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    c_grid: str | Sequence[float] = (C,),
    feature: str = "embedding",
    class_names: Sequence[str] | None = None,
    max_iter: int = MAX_ITER,
) -> FewShot:
    """Train probes on k images of each class, drawn with several seeds, and test each probe.

    For the same seed, the k images of a class are among its k + 1 images, so that a larger k adds
    images without replacing any.

    Args:
        train: (N, D) floating point features, finite, and (N,) integer labels, from which the
            images are drawn; the probes know the classes that occur here.
        test: features and labels of the images on which every probe is tested.
        shots: the values of k, each at least 1 and at most the size of the smallest class.
        seeds: the number of draws for each k, with the seeds 0, 1, ...
        validation: features and labels of images on which C is chosen; probes are not trained on
            them. Without validation images, `c_grid` must have one value, because k images of each
            class leave none to choose C on.
        c_grid: see `linear_probe`; by default 0.316, as in the example of CLIP's README.
        feature: which features these are, "embedding" or "before_projection", for the result.
        class_names: C names, for the result.
        max_iter: the most steps of L-BFGS in a fit.

    Returns:
        The probes, each a `LinearProbe`, and their means and deviations over seeds.

    Raises:
        TypeError: features are not floating point, or labels not integers.
        ValueError: a class, which the message names, has fewer images than a k; there are several
            values of C but no `validation`; or for the reasons given at `linear_probe`.

    Example:
        >>> found = fastclip.evaluate.few_shot((features, labels), (test_features, test_labels))
        >>> found.values(4)  # accuracies with 4 images of each class, for three seeds
    """
    check_settings(feature, max_iter)
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    grid = checked_grid(c_grid)
    if validation is None and len(grid) > 1:
        raise ValueError(
            f"c_grid has {len(grid)} values, and choosing one needs images that are not trained "
            "on: give validation=, or one value"
        )
    given = checked_part("train", train, class_names)
    tested, held = checked_others(given, test, validation, class_names)
    names = names_of(class_names, (given, tested, held))
    numbers = _checked_shots(shots, given, names)
    origin = "none: there is one value of C" if held is None else "given, not trained on"
    probes = []
    for k in numbers:
        for seed in range(seeds):
            drawn = given.only(place_in_class(given.labels, seed) < k)
            choice = chosen(drawn, held, grid, len(names), max_iter)
            probe = trained_and_tested(
                drawn, tested, choice, names, feature, origin,
                0 if held is None else len(held.labels), max_iter,
            )  # fmt: skip
            probes.append(Shot(k, seed, probe))
    return FewShot(tuple(probes), feature)


def _checked_shots(shots: Sequence[int], train: Part, names: Sequence[Any]) -> list[int]:
    """Return the distinct numbers in ascending order."""
    numbers = sorted({index(k) for k in shots})
    if not numbers or numbers[0] < 1:
        raise ValueError(f"shots must be numbers of at least 1, got {list(shots)}")
    counts = train.labels.bincount()
    counts[counts == 0] = len(train.labels)  # a class that only the test images have
    smallest = int(counts.argmin())
    if numbers[-1] > counts[smallest]:
        raise ValueError(
            f"shots must be at most the number of images of the smallest class: "
            f"{names[smallest]!r} has {int(counts[smallest])}, got {numbers[-1]}"
        )
    return numbers


def _without_classes(probe: LinearProbe) -> dict[str, Any]:
    found = probe.to_dict()
    del found["per_class"]
    return found
