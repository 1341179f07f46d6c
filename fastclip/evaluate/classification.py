"""Zero-shot classification: the class whose prompts lie nearest to the image.

A class is the normalised mean of the unit features of its prompts (prompt ensembling).

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.evaluate.prompts import check_template


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
        ValueError: no name, no template, or a template that is not one (`prompts.py`).
    """
    if not names or not templates:
        raise ValueError("names and templates must not be empty")
    for template in templates:
        check_template(template)
    prompts = [template.format(name) for name in names for template in templates]
    features = F.normalize(encode_texts(prompts), dim=-1)
    return F.normalize(features.unflatten(0, (len(names), len(templates))).mean(1), dim=-1)


def classify(image_features: Tensor, classes: Tensor) -> Tensor:
    """Return the (N,) int64 nearest of (C, D) class features for (N, D) image features."""
    return (image_features @ classes.T).argmax(1)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of (N,) predictions that equal the (N,) labels.

    Raises:
        ValueError: the shapes differ or there is nothing to compare.
    """
    if predicted.shape != labels.shape or predicted.numel() == 0:
        raise ValueError(
            f"predicted and labels must be (N,) alike, N >= 1, got {tuple(predicted.shape)} "
            f"and {tuple(labels.shape)}"
        )
    return (predicted == labels).double().mean().item()
