"""Train probes on one part of the images, with any C, and classify other parts with them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fastclip.evaluate.probe.fit import Fit, fit
from fastclip.evaluate.probe.objective import Objective
from fastclip.evaluate.probe.parts import Part
from fastclip.evaluate.scores.classified import Classified, Name, classified


class Training:
    """The images to train on. Probes never predict a class that has no image among them.

    Attributes:
        classes: (K,) int64 on the host, the classes that have images, in ascending order; they are
            the rows of a `Fit`.
        num_images: the number of images.

    Raises:
        ValueError: there are fewer than two classes.
    """

    def __init__(self, part: Part) -> None:
        self.classes = part.labels.unique()
        if len(self.classes) < 2:
            raise ValueError(
                f"train labels must have at least two classes, got only {self.classes.tolist()}"
            )
        rows = torch.searchsorted(self.classes, part.labels)
        self.num_images = len(part.labels)
        self._objective = Objective(part.features, rows.to(part.features.device), len(self.classes))

    def fit(self, c: float, max_iter: int, precision: float, start: Fit | None = None) -> Fit:
        """Fit a probe with one C; see `fit.py`."""
        return fit(self._objective, c, max_iter, precision, start)

    def classifier(self, found: Fit, num_classes: int) -> tuple[Tensor, Tensor]:
        """Return (num_classes, D) weights and (num_classes,) biases.

        The bias of a class that is never predicted is minus infinity.
        """
        weight = found.weight.new_zeros(num_classes, found.weight.shape[1])
        bias = found.bias.new_full((num_classes,), -torch.inf)
        rows = self.classes.to(weight.device)
        return weight.index_copy(0, rows, found.weight), bias.index_copy(0, rows, found.bias)

    def answers(self, found: Fit, part: Part, class_names: Sequence[Name]) -> Classified:
        """Classify the images of a part."""
        weight, bias = self.classifier(found, len(class_names))
        ones = part.features.new_ones(len(part.features), 1)
        answers = classified(
            torch.cat([part.features, ones], 1), torch.cat([weight, bias[:, None]], 1), part.labels
        )
        # Classes of the same name stay different: unlike in zero-shot, no text stands for them.
        return replace(answers, class_names=class_names)
