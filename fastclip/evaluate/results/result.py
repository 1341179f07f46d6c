"""The result of a model in one task on one data set, with everything that it depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLASSIFICATION, RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"
PROBE, FEW_SHOT = "linear_probe", "few_shot"


@dataclass(frozen=True)
class Result:
    """The result of one task.

    Attributes:
        dataset: the name of the data.
        model: the name of the model.
        pretrained: the tag of the model's weights, or "".
        task: one of the four names above; the first three are CLIP_benchmark's.
        metrics: numbers in [0, 1], or ranks; None for a metric that does not apply.
        found: further results of the function in `fastclip.evaluate`, as strict JSON: confidence
            intervals, ties, counts, and the protocol of a probe.
        about: what the numbers depend on, as strict JSON: prompts, digests, skipped samples.
        outcomes: which single images were right; see `outcomes.py`.
        answer: the object that the function in `fastclip.evaluate` returned.
    """

    dataset: str
    model: str
    pretrained: str
    task: str
    metrics: Mapping[str, float | None]
    found: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    outcomes: Mapping[str, Any] | None = None
    answer: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as strict JSON, with CLIP_benchmark's keys and some more."""
        return {
            "dataset": self.dataset, "model": self.model, "pretrained": self.pretrained,
            "task": self.task, "language": "en", "metrics": dict(self.metrics), **self.found,
            **self.about, "outcomes": self.outcomes,
        }  # fmt: skip
