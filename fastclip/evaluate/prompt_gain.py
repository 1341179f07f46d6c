"""What several prompts are worth: the accuracy of all together, and of each template alone."""

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
        prompts: of C classes.

    Attributes:
        classifier: (D, C), a class per column: what `encode_classes` returns of `prompts`, up to
            the last bit.
        templates: that the prompts were made of, T of them, or None if prompts differ by more
            than the name of the class.
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
    """Return the templates of which the prompts of all classes were made, or None.

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
    """Compare one template with all of them.

    Args:
        accuracy_of: from a (D, C) classifier to the accuracy on some images.
        together: that of all templates.

    Returns:
        Accuracies of `all`, of the `first` template, of the `best` and the `mean` one, with their
        number and with the best's text; None if there is one template, or none. Which is the best
        is seen on the images that are tested: its accuracy is what no choice beforehand reaches.
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
