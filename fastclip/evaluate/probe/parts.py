"""Features with labels: a part to train on, to validate or to test, and how a part is divided."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.evaluate.scores.arguments import checked_features, checked_numbers

MAX_CLASSES = 2**20  # a label beyond would make a probe of as many rows


class Part(NamedTuple):
    features: Tensor  # (N, D) floating point
    labels: Tensor  # (N,) int64, on the host

    def only(self, is_in: Tensor) -> "Part":
        """The images of which a (N,) bool on the host is true."""
        return Part(self.features[is_in.to(self.features.device)], self.labels[is_in])

    def with_(self, other: "Part") -> "Part":
        """This part, and another behind it."""
        return Part(*(torch.cat(both) for both in zip(self, other, strict=True)))


def checked_part(
    name: str, part: tuple[Any, Any], class_names: Sequence[str] | None, width: int | None = None
) -> Part:
    """Return (features, labels), which are what they should be.

    Args:
        name: of the argument, for errors: "train", "validation" or "test".
        part: features (N, D) and N labels.
        class_names: if given, labels are below their number.
        width: what D must be, or None.

    Raises:
        TypeError: features are not floating point, or labels not integers.
        ValueError: shapes do not fit, or labels are out of their range. Features that are not
            finite cannot be trained on; those of "test" can be tested.
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
            f"{name} features must be finite, got {num} of {len(features)} that are not"
        )
    return Part(features, labels)


def place_in_class(labels: Tensor, seed: int) -> Tensor:
    """Put images in a random order, and count for each those of its class that come before.

    Args:
        labels: (N,) int64 on the host.
        seed: of the order.

    Returns:
        (N,) int64. The images below k are k of each class, which are among those below k + 1.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]  # by class, at random within
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    return torch.empty_like(labels).index_copy(
        0, order, torch.arange(len(labels)) - starts[labels[order]]
    )


def divided(part: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Divide a part, every class in the same proportion, into one to train on and one to validate.

    Args:
        fraction: of each class that is to validate, rounded; one image at least is trained on.
        seed: decides which images.
    """
    counts = part.labels.bincount()
    num = (counts * fraction).round().long().minimum((counts - 1).clamp(min=0))
    is_to_validate = place_in_class(part.labels, seed) < num[part.labels]
    return part.only(~is_to_validate), part.only(is_to_validate)
