"""The accuracy of classifying images with one label each, overall and by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from fastclip.evaluate.classification import places_and_ties
from fastclip.evaluate.metrics import MEAN_PER_CLASS_RECALL, TOPS, accuracy_name
from fastclip.evaluate.scores.arguments import rows_at_a_time
from fastclip.evaluate.scores.rate import Interval, Rate, interval_of_mean

Name = str | int


@dataclass(frozen=True, eq=False)
class Classified:
    """The place of the right class of each of N images among all C classes.

    Attributes:
        places: (N,) int64 on the host; 1 is the nearest. For an image whose features are not
            finite it is C + 1, so that the image is never right.
        ties: (N,) int64 on the host: by how much each place is larger because ties count against
            the model.
        labels: (N,) int64 on the host, the indices of the right classes in `class_names`.
        class_names: C names, or numbers if the classes have no names.
        non_finite: the number of images whose features were not finite.
    """

    places: Tensor
    ties: Tensor
    labels: Tensor
    class_names: Sequence[Name]
    non_finite: int

    @property
    def correct(self) -> Tensor:
        """(N,) bool on the host: whether each image is classified right, for `compare`."""
        return self.places == 1

    @property
    def rates(self) -> dict[str, Rate | None]:
        """`acc1` and `acc5`; the latter is None if there are fewer than 5 classes."""
        return {
            accuracy_name(k): self._rate(k) if len(self.class_names) >= k else None for k in TOPS
        }

    @cached_property
    def per_class(self) -> list[Rate | None]:
        """The recall of each class, its top-1 accuracy; None for a class without images."""
        num = len(self.class_names)
        columns = (
            self.labels.bincount(minlength=num).tolist(),
            self.labels[self.correct].bincount(minlength=num).tolist(),
            self.labels[self.is_lost_by_ties(1)].bincount(minlength=num).tolist(),
        )
        return [Rate(hits, n, ties) if n else None for n, hits, ties in zip(*columns, strict=True)]

    @property
    def metrics(self) -> dict[str, float | None]:
        """CLIP_benchmark's `acc1`, `acc5` and `mean_per_class_recall`, in [0, 1].

        The last is the mean over the classes that have images. `acc5` is None if there are fewer
        than 5 classes.
        """
        recalls = [rate.value for rate in self.per_class if rate is not None]
        found = {name: None if rate is None else rate.value for name, rate in self.rates.items()}
        return found | {MEAN_PER_CLASS_RECALL: sum(recalls) / len(recalls)}

    @property
    def intervals(self) -> dict[str, Interval | None]:
        """95 % confidence intervals of `metrics`: Wilson's; see `interval_of_mean` for the mean."""
        found = {name: None if rate is None else rate.interval for name, rate in self.rates.items()}
        recalls = [rate for rate in self.per_class if rate is not None]
        return found | {MEAN_PER_CLASS_RECALL: interval_of_mean(recalls)}

    def is_lost_by_ties(self, k: int) -> Tensor:
        """Return (N,) bool: whether an image is wrong within k only by the rule for ties."""
        return (self.places > k) & (self.places - self.ties <= k)

    def to_dict(self, prefix: str = "") -> dict[str, Any]:
        """Return the results, except those of single images, as values of strict JSON.

        Args:
            prefix: a prefix for the names of metrics.

        Returns:
            `metrics`, `intervals` and `counts` (hits, answers, ties) by metric; `n`, `hits` and
            `ties` of the top-1 accuracy; `non_finite`; `num_classes`; `classes_without_images`;
            and `per_class`, a list of the recalls of classes with their intervals.
        """
        first = self.rates[accuracy_name(1)]
        intervals = {
            name: None if found is None else found._asdict()
            for name, found in self.intervals.items()
        }
        counts = {name: rate and rate.to_dict() for name, rate in self.rates.items()}
        per_class = list(zip(self.class_names, self.per_class, strict=True))
        return {
            "metrics": {prefix + name: value for name, value in self.metrics.items()},
            "intervals": {prefix + name: value for name, value in intervals.items()},
            "counts": {prefix + name: value for name, value in counts.items()},
            "n": first.n,
            "hits": first.hits,
            "ties": first.ties,
            "non_finite": self.non_finite,
            "num_classes": len(self.class_names),
            "classes_without_images": [name for name, rate in per_class if rate is None],
            "per_class": [
                {"class": name, "recall": rate.value, **rate.to_dict()}
                for name, rate in per_class
                if rate is not None
            ],
        }

    def _rate(self, k: int) -> Rate:
        hits = int((self.places <= k).sum())
        return Rate(hits, len(self.places), int(self.is_lost_by_ties(k).sum()))


def classified(
    image_features: Tensor,
    classes: Tensor,
    labels: Tensor,
    class_names: Sequence[Name] | None = None,
) -> Classified:
    """Classify images by the class whose row has the largest product with their features.

    Args:
        image_features: (N, D) floating point.
        classes: (C, D) floating point, on the same device.
        labels: (N,) int64 in [0, C).
        class_names: C names. Of classes with the same name, the first is predicted (see
            `fastclip.evaluate.classification.places`). By default classes are named by numbers.
    """
    found, ties = places_and_ties(
        image_features, classes, labels, class_names, rows_at_a_time(len(classes))
    )
    is_lost = (~image_features.isfinite().all(1)).cpu()
    return Classified(
        found.cpu().masked_fill(is_lost, len(classes) + 1), ties.cpu().masked_fill(is_lost, 0),
        labels.cpu(), list(range(len(classes)) if class_names is None else class_names),
        int(is_lost.sum()),
    )  # fmt: skip
