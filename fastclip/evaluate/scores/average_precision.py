"""Average precision of each class, for images that may have several labels.

For a class with P of the N images, which are sorted by their nearness to the class,

    AP = 1/P * sum over its images of (images of the class up to here) / (images up to here)

Ties count against the model: if an image of the class and an image outside it are equally near, the
one outside comes first. The mean over classes is CLIP_benchmark's `mean_average_precision`, in
which a class without images counts as 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastclip.evaluate.metrics import MEAN_AVERAGE_PRECISION
from fastclip.evaluate.scores.classified import Name
from fastclip.evaluate.ties import similarity

MAX_BLOCK = 2**22  # similarities that are sorted at once: 128 MiB along with their orders


@dataclass(frozen=True, eq=False)
class Ranked:
    """The average precision of each of C classes.

    Attributes:
        average_precision: (C,) float64 on the host, in [0, 1]; 0 for a class without images.
        num_images: (C,) int64 on the host: the number of images of each class.
        ties: (C,) int64 on the host: the number of images of each class that are exactly as near
            as an image outside the class, which therefore comes first.
        class_names: C names, or numbers if the classes have no names.
        n: the number of images.
        non_finite: the number of images whose features were not finite.
    """

    average_precision: Tensor
    num_images: Tensor
    ties: Tensor
    class_names: Sequence[Name]
    n: int
    non_finite: int

    @property
    def metrics(self) -> dict[str, float]:
        """CLIP_benchmark's `mean_average_precision`, in [0, 1]."""
        return {MEAN_AVERAGE_PRECISION: self.average_precision.mean().item()}

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values of strict JSON, with a list `per_class` over classes."""
        columns = (self.average_precision, self.num_images, self.ties)
        per_class = [
            {"class": name, "average_precision": precision, "n": num, "ties": ties}
            for name, precision, num, ties in zip(
                self.class_names, *(column.tolist() for column in columns), strict=True
            )
        ]
        return {
            "metrics": self.metrics,
            "n": self.n,
            "ties": int(self.ties.sum()),
            "non_finite": self.non_finite,
            "num_classes": len(self.class_names),
            "classes_without_images": [entry["class"] for entry in per_class if not entry["n"]],
            "per_class": per_class,
        }


def ranked(
    image_features: Tensor,
    classes: Tensor,
    is_of_class: Tensor,
    class_names: Sequence[Name] | None = None,
) -> Ranked:
    """Sort images by their nearness to each class, and return the average precisions.

    Args:
        image_features: (N, D) floating point, unit rows, or rows that are not finite.
        classes: (C, D) floating point, on the same device.
        is_of_class: (N, C) bool: which classes each image belongs to.
        class_names: C names; by default classes are named by their numbers.
    """
    is_of_class = is_of_class.to(image_features.device)
    is_lost = ~image_features.isfinite().all(1)
    columns = max(1, MAX_BLOCK // len(image_features))
    features = image_features.double()
    found = [
        _of_block(similarity(features, part), truth, is_lost)
        for part, truth in zip(classes.split(columns), is_of_class.split(columns, 1), strict=True)
    ]
    precision, ties = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return Ranked(
        precision, is_of_class.sum(0).cpu(), ties,
        list(range(len(classes))) if class_names is None else list(class_names),
        len(image_features), int(is_lost.sum()),
    )  # fmt: skip


def _of_block(near: Tensor, truth: Tensor, is_lost: Tensor) -> tuple[Tensor, Tensor]:
    """Return (C,) average precisions and (C,) numbers of ties, from (N, C) similarities and truths.

    An image whose similarity is nan comes last, and is never found, if it is of the class; an image
    outside the class then comes first.
    """
    near = near.where(~near.isnan(), torch.where(truth, -torch.inf, torch.inf))
    # Two stable sorts: by nearness, and among equals the images outside the class first.
    order = truth.int().argsort(dim=0, stable=True)
    order = order.gather(0, near.gather(0, order).argsort(dim=0, descending=True, stable=True))
    truth, near = truth.gather(0, order), near.gather(0, order)
    is_found = truth & ~is_lost[order]
    ranks = torch.arange(1, len(near) + 1, device=near.device, dtype=torch.float64)
    precision = truth.cumsum(0).double() / ranks[:, None]
    precision = (precision * is_found).sum(0) / truth.sum(0).clamp(min=1)
    # The first of equals is outside the class exactly if any of them is.
    num = torch.arange(len(near), device=near.device)[:, None]
    is_new = torch.ones_like(truth)
    is_new[1:] = near[1:] != near[:-1]
    first = num.where(is_new, 0).cummax(0).values
    return precision, (is_found & ~truth.gather(0, first)).sum(0)
