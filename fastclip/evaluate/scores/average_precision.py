"""How well the images of a class are told from the others, where an image may have several labels.

For a class with P images among N, sorted by how near they are to it,

    AP = 1/P * sum over its images of (images of the class up to here) / (images up to here)

An image that is not of the class and exactly as near as one that is stands before it: ties count
against the model. The mean over classes is CLIP_benchmark's `mean_average_precision`, in which a
class without images counts 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastclip.evaluate.metrics import MEAN_AVERAGE_PRECISION
from fastclip.evaluate.scores.classified import Name
from fastclip.evaluate.ties import similarity

MAX_BLOCK = 2**22  # similarities that are sorted at once: with their orders, 128 MiB


@dataclass(frozen=True, eq=False)
class Ranked:
    """How well each of C classes is told apart.

    Attributes:
        average_precision: (C,) float64 on the host, in [0, 1]; 0 for a class without images.
        num_images: (C,) int64 on the host: images of each class.
        ties: (C,) int64 on the host: images of each class that are exactly as near as one that is
            not of it, which stands before them.
        class_names: C names, or the numbers of classes that have none.
        n: images.
        non_finite: how many images had features that were not finite.
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
        """Return what strict JSON holds: all of it, by class in the list `per_class`."""
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
    """Sort images by how near they are to each class.

    Args:
        image_features: (N, D) floating point, unit rows, or rows that are not finite.
        classes: (C, D) floating point, on the same device.
        is_of_class: (N, C) bool.
        class_names: C names; by default every class has its number.
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
    """Of (N, C) similarities and truths: (C,) precisions, and how many images of it tie.

    What is not of a number is last if it is of the class, and then it is never found; else first.
    """
    near = near.where(~near.isnan(), torch.where(truth, -torch.inf, torch.inf))
    # Two stable sorts: by nearness, and among equals what is not of the class first.
    order = truth.int().argsort(dim=0, stable=True)
    order = order.gather(0, near.gather(0, order).argsort(dim=0, descending=True, stable=True))
    truth, near = truth.gather(0, order), near.gather(0, order)
    is_found = truth & ~is_lost[order]
    ranks = torch.arange(1, len(near) + 1, device=near.device, dtype=torch.float64)
    precision = truth.cumsum(0).double() / ranks[:, None]
    precision = (precision * is_found).sum(0) / truth.sum(0).clamp(min=1)
    # Among equals the first is not of the class exactly where one of them is not.
    num = torch.arange(len(near), device=near.device)[:, None]
    is_new = torch.ones_like(truth)
    is_new[1:] = near[1:] != near[:-1]
    first = num.where(is_new, 0).cummax(0).values
    return precision, (is_found & ~truth.gather(0, first)).sum(0)
