"""The result of a linear probe: its weights, and its answers to the test images."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from fastclip.evaluate.metrics import OF_A_PROBE
from fastclip.evaluate.probe.c_search import Choice
from fastclip.evaluate.probe.fit import Fit
from fastclip.evaluate.scores.classified import Classified, Name
from fastclip.evaluate.scores.rate import Interval

PROTOCOL = "clip-lbfgs"


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A probe, and its answers to the test images.

    Attributes:
        answers: the places of the right classes, per-class recalls, and `correct`, (N,) bool.
        weight: (C, D) float64.
        bias: (C,) float64; minus infinity for classes without training images.
        choice: the chosen C, and the values that were tried.
        fit: the fit of the tested probe; its rows are the classes that have training images.
        feature: "embedding" or "before_projection", as the caller gave it.
        num_train: the number of images on which the tested probe was trained.
        validation: words that say where the images came from on which C was chosen.
        num_validation: the number of these images.
        untrained_classes: classes that have test images but no training images; their images are
            always wrong.
    """

    answers: Classified
    weight: Tensor
    bias: Tensor
    choice: Choice
    fit: Fit
    feature: str
    num_train: int
    validation: str
    num_validation: int
    untrained_classes: tuple[Name, ...]

    @property
    def metrics(self) -> dict[str, float | None]:
        """CLIP_benchmark's `lp_acc1`, `lp_acc5` and `lp_mean_per_class_recall`, in [0, 1]."""
        return {OF_A_PROBE + name: value for name, value in self.answers.metrics.items()}

    @property
    def intervals(self) -> dict[str, Interval | None]:
        """95 % confidence intervals of `metrics`."""
        return {OF_A_PROBE + name: value for name, value in self.answers.intervals.items()}

    @property
    def correct(self) -> Tensor:
        """(N,) bool on the host: whether each test image is classified right, for `compare`."""
        return self.answers.correct

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values of strict JSON.

        Returns:
            The entries of `Classified.to_dict`, and besides: `protocol`, "clip-lbfgs"; `feature`;
            `c`, `c_is_at_end`, and `c_tried` with the accuracies on the validation part;
            `objective`, `iterations`, `gradient` and `is_converged` of the tested probe;
            `num_train`, `num_validation`, `validation`, `untrained_classes`.
        """
        return {
            **self.answers.to_dict(OF_A_PROBE),
            "protocol": PROTOCOL,
            "feature": self.feature,
            "c": self.choice.c,
            "c_is_at_end": self.choice.is_at_end,
            "c_tried": [asdict(tried) for tried in self.choice.tried],
            "objective": self.fit.objective,
            "iterations": self.fit.iterations,
            "gradient": self.fit.gradient,
            "is_converged": self.fit.is_converged,
            "num_train": self.num_train,
            "num_validation": self.num_validation,
            "validation": self.validation,
            "untrained_classes": list(self.untrained_classes),
        }
