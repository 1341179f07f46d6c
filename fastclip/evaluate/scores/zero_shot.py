"""Zero-shot classification of features, with a classifier such as open_clip's builder returns."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.evaluate.scores.arguments import checked_features, checked_numbers, finite_or_nan
from fastclip.evaluate.scores.average_precision import Ranked, ranked
from fastclip.evaluate.scores.classified import Classified, classified


def zero_shot(
    image_features: Tensor,
    classifier: Tensor,
    labels: Tensor | Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
    subset: Sequence[int] | Tensor | None = None,
) -> Classified | Ranked:
    """Classify images by their nearest class, and return the accuracies.

    A class that is exactly as near as the right one counts against the model, so that collapsed
    features score 0 (`fastclip.evaluate.ties`). The result has the number of images with such ties.

    Args:
        image_features: (N, D) floating point, N >= 1, of any length. A row that is not finite
            counts as a wrong answer.
        classifier: (D, C) floating point, **a class per column**, as
            `fastclip.build_zero_shot_classifier` and open_clip's function of that name return it;
            C >= 2. Columns are not normalised.
        labels: (N,) integers in [0, C), the right classes; or (N, C) of 0 and 1, if an image may
            belong to several classes or to none.
        class_names: C names, for the result. No model can distinguish classes of the same name, so
            they all get the features of the first of them, and the first is predicted.
        subset: the numbers of the classes that images may belong to, as for ImageNet-A, ImageNet-R
            and ObjectNet, whose images are of 200 or 113 of ImageNet's classes. Only these columns
            are compared: a class outside the subset is never predicted. **Labels keep the numbering
            of the whole classifier**, and a label that is not in `subset` is an error; convert
            labels in a data set's own numbering with `torch.tensor(subset)[labels]`.

    Returns:
        `Classified`, whose `metrics` are CLIP_benchmark's `acc1`, `acc5` (None if there are fewer
        than 5 classes) and `mean_per_class_recall`; or, for (N, C) labels, `Ranked`, with
        `mean_average_precision`. With a subset, the result covers the classes of the subset in its
        order; without names, classes are named by their numbers in the whole classifier.

    Raises:
        TypeError: features are not floating point, or labels or `subset` are not integers.
        ValueError: shapes do not fit, the classifier is transposed, a number is out of range or
            occurs twice in `subset`, a label is not in `subset`, or there are fewer than two
            classes.

    Example:
        >>> classifier = fastclip.build_zero_shot_classifier(model, tokenizer, names, templates)
        >>> found = fastclip.evaluate.zero_shot(image_features, classifier, labels)
        >>> found.metrics["acc1"], found.intervals["acc1"], found.rates["acc1"].ties
    """
    features = checked_features("image_features", image_features)
    classes = _rows_of(classifier, features)
    num = len(classes)
    if class_names is not None and len(class_names) != num:
        raise ValueError(
            f"class_names must have {num} names, one per column of classifier, got "
            f"{len(class_names)}"
        )
    given = torch.as_tensor(labels)
    truth = _multi_hot(given, len(features), num) if given.ndim == 2 else None
    if truth is None:
        labels = checked_numbers("labels", given, len(features), num)
    names: Sequence[str | int] = range(num) if class_names is None else class_names
    if subset is not None:
        columns = _columns(subset, num)
        names = [names[i] for i in columns.tolist()]
        classes = classes[columns.to(classes.device)]
        if truth is None:
            labels = _within(labels, columns, num)
        else:
            truth = truth[:, columns]
    if len(set(names)) < 2:
        raise ValueError(
            f"there must be at least two classes with different names to choose from, got only "
            f"{list(names)[:1]}"
        )
    if truth is None:
        return classified(features, classes, labels, names)
    features = finite_or_nan(features.double())[0]
    return ranked(F.normalize(features, dim=1), classes, truth, names)


def _rows_of(classifier: Tensor, features: Tensor) -> Tensor:
    """Return the classes as (C, D) rows, on the device of the features."""
    classes = checked_features("classifier", classifier).T.to(features.device)
    dim = features.shape[1]
    wanted = f"classifier must be ({dim}, C), a class per column, for features of width {dim}"
    if classes.shape[1] != dim:
        advice = ": it seems to be transposed" if len(classes) == dim else ""
        raise ValueError(f"{wanted}, got {tuple(classes.T.shape)}{advice}")
    if len(classes) == dim and not _has_unit_rows(classes) and _has_unit_rows(classes.T):
        raise ValueError(
            f"{wanted}; its rows have length 1 but its columns do not, so transpose it"
        )
    return classes


def _has_unit_rows(rows: Tensor) -> bool:
    return bool(((rows.double().norm(dim=1) - 1).abs() < 0.02).all())


def _columns(subset: Sequence[int] | Tensor, num: int) -> Tensor:
    columns = checked_numbers("subset", subset, None, num)
    values, times = columns.unique(return_counts=True)
    if (times > 1).any():
        raise ValueError(
            f"subset must not repeat a class, got the class {values[times > 1][0]} several times"
        )
    return columns


def _within(labels: Tensor, columns: Tensor, num: int) -> Tensor:
    """Convert labels to the numbering of the subset."""
    place_of = torch.full((num,), -1).index_copy(0, columns, torch.arange(len(columns)))
    found = place_of[labels]
    if (found < 0).any():
        place = int((found < 0).nonzero()[0])
        raise ValueError(
            f"labels must be in subset, in the numbering of the whole classifier, got "
            f"{labels[place]} at {place}; convert labels in the numbering of the subset with "
            "torch.tensor(subset)[labels]"
        )
    return found


def _multi_hot(labels: Tensor, num_images: int, num_classes: int) -> Tensor:
    if labels.shape != (num_images, num_classes) or not ((labels == 0) | (labels == 1)).all():
        raise ValueError(
            f"labels must be ({num_images},) numbers of classes, or ({num_images}, {num_classes}) "
            f"zeros and ones, got shape {tuple(labels.shape)}"
        )
    return labels.detach().cpu().bool()
