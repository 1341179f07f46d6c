"""Measure the gain of prompt ensembling: all templates together, and each template alone."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.class_prompts import ClassPrompts
from fastclip.evaluate.classification import ensembled
from fastclip.evaluate.classifier import encode_classes


class PromptFeatures:
    """The features of every prompt of every class, encoded once.

    Args:
        encoder, tokenizer, chunk: see `encode_classes`.
        prompts: the prompts of C classes.

    Attributes:
        classifier: (D, C), a class per column; the same as `encode_classes` returns for `prompts`,
            up to rounding in the last bit.
        templates: the T templates of which the prompts were made, or None if the prompts of two
            classes differ by more than the name.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Callable[[list[str]], Tensor],
        prompts: ClassPrompts,
        chunk: int,
    ) -> None:
        texts = list(dict.fromkeys(chain(*prompts.prompts)))
        alone = ClassPrompts(tuple(texts), tuple((text,) for text in texts), prompts.said)
        self._columns = encode_classes(encoder, tokenizer, alone, chunk)
        place = {text: i for i, text in enumerate(texts)}
        self._places = [torch.tensor([place[text] for text in own]) for own in prompts.prompts]
        device = self._columns.device
        self.classifier = torch.stack(
            [ensembled(self._columns.T[own.to(device)]) for own in self._places], dim=1
        )
        self.templates = templates_of(prompts)

    def of_template(self, number: int) -> Tensor:
        """Return the (D, C) classifier of one template alone."""
        places = torch.stack([own[number] for own in self._places])
        return self._columns[:, places.to(self._columns.device)]


def templates_of(prompts: ClassPrompts) -> list[str] | None:
    """Return the templates from which the prompts of all classes can be made, or None.

    Example:
        >>> templates_of(make_class_prompts(["cat", "dog"], ["a {}.", "the {}."]))
        ['a {}.', 'the {}.']
    """
    longest = max(range(len(prompts.names)), key=lambda i: len(prompts.names[i]))
    name = prompts.names[longest]
    templates = [
        text.replace("{", "{{").replace("}", "}}").replace(name, "{}")
        for text in prompts.prompts[longest]
    ]
    made = (
        tuple(template.format(name) for template in templates) == own
        for name, own in zip(prompts.names, prompts.prompts, strict=True)
    )
    return templates if "" not in prompts.names and all(made) else None


def prompt_gain(
    features: PromptFeatures, accuracy_of: Callable[[Tensor], float], together: float
) -> dict[str, Any] | None:
    """Compare the accuracies of single templates with the accuracy of all templates together.

    Args:
        features: the features of all prompts.
        accuracy_of: from a (D, C) classifier to its accuracy on some images.
        together: the accuracy of all templates together.

    Returns:
        The number of templates; the accuracies of `all` together, of the `first` and of the `best`
        template, and the `mean` over templates; and the texts of the first and the best one. None
        if there are fewer than two templates. The best template is chosen on the test images, so
        its accuracy is an upper bound for a template that is chosen beforehand.
    """
    templates = features.templates
    if templates is None or len(templates) < 2:
        return None
    alone = [accuracy_of(features.of_template(i)) for i in range(len(templates))]
    best = max(range(len(alone)), key=alone.__getitem__)
    return {
        "templates": len(templates), "all": together, "first": alone[0],
        "first_template": templates[0], "best": alone[best], "best_template": templates[best],
        "mean": sum(alone) / len(alone),
    }  # fmt: skip
