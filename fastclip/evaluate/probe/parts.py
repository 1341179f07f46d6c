"""Features with labels to train, validate or test on, and the division of such a part."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.evaluate.scores.arguments import checked_features, checked_numbers

MAX_CLASSES = 2**20  # limits labels if there are no names, because a probe has a row per label


class Part(NamedTuple):
    features: Tensor  # (N, D) floating point
    labels: Tensor  # (N,) int64, on the host

    def only(self, is_in: Tensor) -> "Part":
        """Return the images for which a (N,) bool on the host is true."""
        return Part(self.features[is_in.to(self.features.device)], self.labels[is_in])

    def with_(self, other: "Part") -> "Part":
        """Return this part followed by another."""
        return Part(*(torch.cat(both) for both in zip(self, other, strict=True)))


def checked_part(
    name: str, part: tuple[Any, Any], class_names: Sequence[str] | None, width: int | None = None
) -> Part:
    """Check (features, labels) and return them as a part.

    Args:
        name: the name of the argument, for errors: "train", "validation" or "test".
        part: features (N, D) and N labels.
        class_names: names of the classes; if given, labels must be below their number.
        width: the required D, or None.

    Raises:
        TypeError: features are not floating point, or labels are not integers.
        ValueError: shapes do not fit, labels are out of range, or features of another part than
            "test" are not finite.
    """
    if len(part) != 2:
        raise ValueError(f"{name} must be (features, labels), got {len(part)} values")
    features = checked_features(f"{name} features", part[0])
    if width is not None and features.shape[1] != width:
        raise ValueError(f"{name} features must have width {width}, got {features.shape[1]}")
    below = MAX_CLASSES if class_names is None else len(class_names)
    labels = checked_numbers(f"{name} labels", part[1], len(features), below)
    num = int((~features.isfinite().all(1)).sum())
    if num and name != "test":
        raise ValueError(
            f"{name} features must be finite, got {num} of {len(features)} rows that are not"
        )
    return Part(features, labels)


def place_in_class(labels: Tensor, seed: int) -> Tensor:
    """Put images in a random order, and return the place of each within its class, from 0.

    Args:
        labels: (N,) int64 on the host.
        seed: the seed of the order.

    Returns:
        (N,) int64. The images whose place is below k are k images of each class, and a larger k
        adds images to them.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]  # by class, at random within
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    return torch.empty_like(labels).index_copy(
        0, order, torch.arange(len(labels)) - starts[labels[order]]
    )


def divided(part: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Divide a part into one to train on and one to validate, with the same proportion per class.

    Args:
        part: the images.
        fraction: the fraction of each class that goes to validation, rounded; at least one image
            of each class remains to train on.
        seed: the seed that decides which images are drawn.
    """
    counts = part.labels.bincount()
    num = (counts * fraction).round().long().minimum((counts - 1).clamp(min=0))
    is_to_validate = place_in_class(part.labels, seed) < num[part.labels]
    return part.only(~is_to_validate), part.only(is_to_validate)
