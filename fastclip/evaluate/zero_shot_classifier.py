"""Build a zero-shot classifier with open_clip's interface: a matrix whose columns are classes.

    logits = image_features @ classifier

A class is the normalised mean of the unit features of its prompts, as in `classification.py`.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastclip.evaluate.classification import ensembled
from fastclip.evaluate.prompts import check_template

Template = str | Callable[[str], str]


def build_zero_shot_classifier(
    model: Any,
    tokenizer: Callable[[list[str]], Any],
    classnames: Sequence[str],
    templates: Sequence[Template],
    num_classes_per_batch: int | None = 10,
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Tensor:
    """Encode the prompts of all classes and return the classifier as a matrix.

    Args:
        model: a model on `device` with an `encode_text` method; its mode is left as it is.
        tokenizer: from texts to the input of `encode_text`, which has a `to` method.
        classnames: C names.
        templates: texts with "{}" for the name, or functions from the name to a prompt.
        num_classes_per_batch: classes whose prompts are encoded at once; None for all of them.
        device: the device of the model.
        use_tqdm: whether to show a progress bar, which needs tqdm.

    Returns:
        (embed_dim, C), unit columns, in the dtype of the model's features.

    Raises:
        TypeError: `classnames` or `templates` is a single string.
        ValueError: one of the two is empty, a text is not a template (`prompts.py`), or
            `num_classes_per_batch` < 1.

    Example:
        >>> classifier = fastclip.build_zero_shot_classifier(
        ...     model, tokenizer, ["cat", "dog"], ["a photo of a {}.", "a drawing of a {}."]
        ... )
        >>> (model.encode_image(images, normalize=True) @ classifier).argmax(1)
    """
    prompts = _prompts(classnames, templates)
    if num_classes_per_batch is not None and num_classes_per_batch < 1:
        raise ValueError(f"num_classes_per_batch must be at least 1, got {num_classes_per_batch}")
    step = num_classes_per_batch or len(prompts)
    starts: Any = range(0, len(prompts), step)
    if use_tqdm:
        from tqdm import tqdm

        starts = tqdm(starts, unit="batch", desc="zero-shot classes")
    rows = []
    with torch.no_grad():
        for start in starts:
            batch = prompts[start : start + step]
            tokens = tokenizer([text for texts in batch for text in texts]).to(device)
            features = model.encode_text(tokens)
            rows.append(ensembled(features.unflatten(0, (len(batch), len(templates)))))
        return torch.cat(rows).T


def build_zero_shot_classifier_legacy(
    model: Any,
    tokenizer: Callable[[list[str]], Any],
    classnames: Sequence[str],
    templates: Sequence[Template],
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Tensor:
    """Build the same classifier as `build_zero_shot_classifier`, one class at a time.

    Example:
        >>> classifier = fastclip.build_zero_shot_classifier_legacy(
        ...     model, tokenizer, ["cat", "dog"], ["a photo of a {}.".format]
        ... )  # (D, 2)
        >>> logits = 100.0 * image_features @ classifier  # (B, 2)
    """
    return build_zero_shot_classifier(
        model, tokenizer, classnames, templates, 1, device=device, use_tqdm=use_tqdm
    )


def _prompts(classnames: Sequence[str], templates: Sequence[Template]) -> list[list[str]]:
    """Return the prompts of every class."""
    for name, values in (("classnames", classnames), ("templates", templates)):
        if isinstance(values, str):
            raise TypeError(f"{name} must be a sequence, got the string {values!r}")
        if len(values) == 0:
            raise ValueError(f"{name} must not be empty")
    for template in templates:
        if isinstance(template, str):
            check_template(template)
    return [
        [t.format(name) if isinstance(t, str) else t(name) for t in templates]
        for name in classnames
    ]
