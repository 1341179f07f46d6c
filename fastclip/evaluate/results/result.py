"""What a model scored in one task on one data set, with all that the number depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLASSIFICATION, RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"
PROBE, FEW_SHOT = "linear_probe", "few_shot"


@dataclass(frozen=True)
class Result:
    """The numbers of one task.

    Attributes:
        dataset: the name of the data.
        model: the name of the model, and `pretrained` the tag of its weights, or "".
        task: one of the four above; the first three are CLIP_benchmark's names.
        metrics: numbers in [0, 1], or ranks; None where there is none.
        found: what else the functions of `fastclip.evaluate` say, as strict JSON: intervals, ties,
            counts, and of probes their protocol.
        about: what the numbers depend on, as strict JSON: prompts, digests, what was skipped.
        outcomes: which single images were right; see `outcomes.py`.
        answer: what the function of `fastclip.evaluate` returned, of which all this was made.
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
        """Return all of it as strict JSON, under CLIP_benchmark's keys and some more."""
        return {
            "dataset": self.dataset, "model": self.model, "pretrained": self.pretrained,
            "task": self.task, "language": "en", "metrics": dict(self.metrics), **self.found,
            **self.about, "outcomes": self.outcomes,
        }  # fmt: skip
