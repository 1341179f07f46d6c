"""What a linear probe says: a probe, and what it answered."""

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
    """A probe, and what it answered to the images of the test.

    Attributes:
        answers: the places of the right classes, per-class recalls, and `correct`, (N,) bool.
        weight: (C, D) float64.
        bias: (C,) float64; minus infinity for classes that were not trained.
        choice: C, and what was tried.
        fit: how the probe was fitted that was tested; its rows are of the classes that were
            trained.
        feature: "embedding" or "before_projection", as the caller said.
        num_train: images on which the tested probe was trained.
        validation: where the images came from on which C was chosen, in words, and `num_validation`
            how many there were.
        untrained_classes: classes of test images that no image was trained of: always wrong.
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
        """95 % intervals of `metrics`."""
        return {OF_A_PROBE + name: value for name, value in self.answers.intervals.items()}

    @property
    def correct(self) -> Tensor:
        """(N,) bool on the host: which images of the test are classified right, for `compare`."""
        return self.answers.correct

    def to_dict(self) -> dict[str, Any]:
        """Return what strict JSON holds: what `Classified.to_dict` says, and of the probe.

        Returns:
            Besides that: `protocol`, "clip-lbfgs"; `feature`; `c`, `c_is_at_end`, and `c_tried`
            with the accuracies on the validation part; `objective`, `iterations`, `gradient` and
            `is_converged` of the tested probe; `num_train`, `num_validation`, `validation`,
            `untrained_classes`.
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
