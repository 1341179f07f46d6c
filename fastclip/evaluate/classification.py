"""Zero-shot classification: the class whose prompts lie nearest to the image.

A class is the normalised mean of the unit features of its prompts (prompt ensembling). An image
counts as right within k if its own class is among the k nearest; a tie counts against the model
(`fastclip.evaluate.ties`), so that collapsed features score 0.

    place_i = 1 + #{ class c other than label_i : <image_i, c> >= <image_i, label_i> }

Cost: 2 N C D FLOPs for N images and C classes; memory O(chunk * C), no N x C tensor.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.evaluate.class_prompts import make_class_prompts
from fastclip.evaluate.items import distinct, first_of_each
from fastclip.evaluate.ranking import DEFAULT_CHUNK, nearest
from fastclip.evaluate.ties import counts_against, similarity


@torch.no_grad()
def class_features(
    encode_texts: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """Return (C, D) unit features, one row per class name.

    Args:
        encode_texts: from T texts to (T, D) features of any length.
        names: C class names.
        templates: prompts with "{}" where the name goes; at least one.

    Raises:
        ValueError: there is no name or no template, or a template is not valid (`prompts.py`).
    """
    prompts = make_class_prompts(names, templates).prompts
    features = encode_texts(list(chain(*prompts)))
    return ensembled(features.unflatten(0, (len(names), len(templates))))


def ensembled(features: Tensor) -> Tensor:
    """Return the unit feature of each class: the normalised mean of its prompts' unit features.

    Args:
        features: (..., T, D) floating point, the features of T prompts per class, of any length.

    Returns:
        (..., D), in the same dtype.
    """
    return F.normalize(F.normalize(features, dim=-1).mean(-2), dim=-1)


def places(
    image_features: Tensor,
    classes: Tensor,
    labels: Tensor,
    class_names: Sequence[Hashable] | None = None,
    chunk: int = DEFAULT_CHUNK,
) -> Tensor:
    """Return the place of each image's right class among all classes; 1 is the nearest.

    Classes that are as near as the right class come before it. No model can distinguish classes of
    the same name, so they all get the features of the first of them and keep the order in which
    they are given: the first is the one predicted. For an image whose features are nan, the right
    class comes after all classes of other names.

    Args:
        image_features: (N, D) floating point.
        classes: (C, D) floating point, on the same device.
        labels: (N,) int64 in [0, C), the right classes.
        class_names: C names; by default all classes have different names.
        chunk: images compared at a time, at least 1.

    Returns:
        (N,) int64 in [1, C], on the device of the features. `recall_at(k, places)` of
        `fastclip.evaluate.ranking` is the top-k accuracy.

    Raises:
        ValueError: the shapes do not fit, a label is out of range, or `chunk` < 1.

    Example: the second image is equally near to both classes.
        >>> images = torch.tensor([[1.0, 0.0], [0.6, 0.6], [0.0, 1.0]])
        >>> places(images, torch.eye(2), torch.tensor([0, 0, 0]))
        tensor([1, 2, 2])
        >>> places(images, torch.eye(2), torch.tensor([0, 0, 0]), ["dog", "dog"])
        tensor([1, 1, 1])
    """
    return places_and_ties(image_features, classes, labels, class_names, chunk)[0]


@torch.no_grad()
def places_and_ties(
    image_features: Tensor,
    classes: Tensor,
    labels: Tensor,
    class_names: Sequence[Hashable] | None = None,
    chunk: int = DEFAULT_CHUNK,
) -> tuple[Tensor, Tensor]:
    """Return what `places` returns, and the number of ties that each place includes.

    Returns:
        (N,) int64 places; and (N,) int64 numbers of classes of other names that are exactly as
        near as the right class. Without the rule for ties each place would be smaller by that
        number.
    """
    _check_features(image_features, classes, chunk)
    _check_labels(labels, class_names, len(image_features), len(classes))
    device = image_features.device
    name_of = torch.arange(len(classes)) if class_names is None else distinct(class_names)
    behind = _later_equals(name_of).to(device)  # for each class, the later ones of its name
    gallery = classes[first_of_each(name_of).to(device)].double()
    num_of_name, labels = name_of.bincount().to(device), labels.to(device)
    own_names = name_of.to(device)[labels]
    found, ties = [], []
    for part, own in zip(image_features.split(chunk), own_names.split(chunk), strict=True):
        near = similarity(part, gallery)
        right = near.gather(1, own[:, None]).squeeze(1)
        found.append((counts_against(near, right) * num_of_name).sum(1))
        is_tie = (near == right[:, None]).scatter(1, own[:, None], False)
        ties.append((is_tie * num_of_name).sum(1))
    return torch.cat(found) - behind[labels], torch.cat(ties)


@torch.no_grad()
def classify(image_features: Tensor, classes: Tensor, chunk: int = DEFAULT_CHUNK) -> Tensor:
    """Return the nearest class of each image, or -1 if several classes are equally near.

    A collapsed model, for which all classes tie, is therefore never right. The right class of an
    image is predicted exactly if `places` returns 1 for the image.

    Args:
        image_features: (N, D) floating point.
        classes: (C, D) floating point, on the same device.
        chunk: images compared at a time, at least 1.

    Returns:
        (N,) int64 in [-1, C). Do not use -1 as an index into a list of names: it stands for "none".

    Raises:
        ValueError: the shapes do not fit, or `chunk` < 1.

    Example:
        >>> classify(torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.eye(2))
        tensor([0, -1])
    """
    _check_features(image_features, classes, chunk)
    found = nearest(image_features, classes, chunk)
    return found.where(places(image_features, classes, found, chunk=chunk) == 1, -1)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the fraction of (N,) predictions that equal the (N,) labels.

    Raises:
        ValueError: the shapes differ, or there are no predictions.
    """
    if predicted.shape != labels.shape or predicted.numel() == 0:
        raise ValueError(
            f"predicted and labels must both have the shape (N,), N >= 1, got "
            f"{tuple(predicted.shape)} and {tuple(labels.shape)}"
        )
    return (predicted == labels).double().mean().item()


def _check_features(image_features: Tensor, classes: Tensor, chunk: int) -> None:
    if image_features.ndim != 2 or image_features.shape[1:] != classes.shape[1:]:
        raise ValueError(
            "image_features must be (N, D) and classes (C, D), got "
            f"{tuple(image_features.shape)} and {tuple(classes.shape)}"
        )
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")


def _check_labels(
    labels: Tensor, class_names: Sequence[Hashable] | None, num_images: int, num_classes: int
) -> None:
    if labels.shape != (num_images,) or not ((labels >= 0) & (labels < num_classes)).all():
        raise ValueError(
            f"labels must be {num_images} integers in [0, {num_classes}), one per image, got "
            f"{_described(labels)}"
        )
    if class_names is not None and len(class_names) != num_classes:
        raise ValueError(
            f"class_names must have {num_classes} names, one per class, got {len(class_names)}"
        )


def _described(labels: Tensor) -> str:
    within = f", from {int(labels.min())} to {int(labels.max())}" if labels.numel() else ""
    return f"shape {tuple(labels.shape)}{within}"


def _later_equals(numbers: Tensor) -> Tensor:
    """Return, for each of (N,) numbers, how many equal numbers come after it."""
    seen: Counter[int] = Counter()
    found = []
    for number in reversed(numbers.tolist()):
        found.append(seen[number])
        seen[number] += 1
    return torch.tensor(found[::-1])
