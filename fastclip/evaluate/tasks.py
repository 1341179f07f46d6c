"""The tasks of an evaluation: each computes a `Result` from features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.items import digests, distinct
from fastclip.evaluate.metrics import RECALLS
from fastclip.evaluate.probe.few_shot import SHOTS, few_shot
from fastclip.evaluate.probe.linear_probe import linear_probe
from fastclip.evaluate.prompt_gain import PromptFeatures, prompt_gain
from fastclip.evaluate.results.outcomes import CLASSES, TRAINING, all_to_json, questions_of
from fastclip.evaluate.results.result import (
    CLASSIFICATION,
    FEW_SHOT,
    PROBE,
    RETRIEVAL,
    Result,
)
from fastclip.evaluate.scores.retrieval import retrieval
from fastclip.evaluate.scores.zero_shot import zero_shot
from fastclip.evaluate.sets.class_list import ClassList
from fastclip.evaluate.sets.features import LabelledFeatures, PairFeatures
from fastclip.models.inference import InferenceModel

FEATURE = "embedding"  # what a probe is trained on


@dataclass(frozen=True)
class Subject:
    """The model that is evaluated, and its name and tag in the results."""

    ready: InferenceModel
    encoder: Encoder
    pretrained: str
    chunk: int  # prompts that are encoded at once

    def result(
        self,
        dataset: str,
        task: str,
        answer: Any,
        about: Mapping[str, Any],
        outcomes: Mapping[str, Any] | None = None,
    ) -> Result:
        """Make a `Result` from what a function of `fastclip.evaluate` returns."""
        found = answer.to_dict()
        metrics = found.pop("metrics") if "metrics" in found else _means(found["summary"])
        return Result(
            dataset, self.ready.name, self.pretrained, task, metrics, found, about, outcomes,
            answer,
        )  # fmt: skip


def classify_task(
    subject: Subject,
    dataset: str,
    images: LabelledFeatures,
    classes: ClassList,
    about: Mapping[str, Any],
) -> Result:
    """Classify images zero-shot, with all prompts together and with each template alone.

    Raises:
        ValueError: the classes do not fit the labels.
    """
    labels = classes.labels(images.labels)
    features = images.image_features.to(subject.ready.device)
    prompts = PromptFeatures(
        subject.encoder, subject.ready.tokenizer, classes.prompts, subject.chunk
    )

    def classified(classifier: Tensor) -> Any:
        return zero_shot(
            features, classifier, labels, class_names=classes.prompts.names, subset=classes.subset
        )

    found = classified(prompts.classifier)
    together = found.metrics["acc1"]
    gain = prompt_gain(prompts, lambda alone: classified(alone).metrics["acc1"], together)
    said = {
        "templates": classes.prompts.said,
        "prompt_gain": gain,
        "subset": None if classes.subset is None else len(classes.subset),
    }
    outcomes = all_to_json(_questions(images, labels, classes), {"acc1": found.correct})
    return subject.result(dataset, CLASSIFICATION, found, {**about, **said}, outcomes)


def retrieve_task(
    subject: Subject,
    dataset: str,
    pairs: PairFeatures,
    about: Mapping[str, Any],
    recall_at: Sequence[int] = RECALLS,
) -> Result:
    """Retrieve the texts of images, and the images of texts.

    Equal captions of different images are different texts here, each with one right image; the
    other images tie with the right one or are found in its place. CLIP_benchmark counts its recalls
    the same way, and the result says how many such captions there are. Evaluation while training
    instead treats equal captions as one text of all its images.
    """
    device = subject.ready.device
    found = retrieval(
        pairs.image_features.to(device), pairs.text_features.to(device), pairs.text_to_image,
        recall_at,
    )  # fmt: skip
    correct = {
        "text_retrieval_recall@1": found.image_to_text.ranks == 1,
        "image_retrieval_recall@1": found.text_to_image.ranks == 1,
    }
    several = len(found.text_to_image.ranks) > len(found.image_to_text.ranks)
    outcomes = all_to_json(
        questions_of(pairs.keys, pairs.text_to_image.tolist()), correct,
        {"image_retrieval_recall@1": pairs.text_to_image} if several else None,
    )  # fmt: skip
    said = {"captions_of_several_images": _shared(pairs)}
    return subject.result(dataset, RETRIEVAL, found, {**about, **said}, outcomes)


def probe_task(
    subject: Subject,
    dataset: str,
    train: LabelledFeatures,
    test: LabelledFeatures,
    class_names: Sequence[str] | None,
    about: Mapping[str, Any],
) -> Result:
    """Train a linear probe on one set, and test it on another."""
    found = linear_probe(
        _part(subject, train), _part(subject, test), feature=FEATURE, class_names=class_names
    )
    trained_on = [about["train"]["data"], train.keys, train.labels.tolist()]
    questions = questions_of(test.keys, test.labels.tolist(), **{TRAINING: trained_on})
    outcomes = all_to_json(questions, {"lp_acc1": found.correct})
    return subject.result(dataset, PROBE, found, about, outcomes)


def few_shot_task(
    subject: Subject,
    dataset: str,
    train: LabelledFeatures,
    test: LabelledFeatures,
    class_names: Sequence[str] | None,
    about: Mapping[str, Any],
    shots: Sequence[int] = SHOTS,
    seeds: int = 3,
) -> Result:
    """Train and test probes on a few images of each class; `metrics` has the means over seeds."""
    found = few_shot(
        _part(subject, train), _part(subject, test), shots, seeds, feature=FEATURE,
        class_names=class_names,
    )  # fmt: skip
    return subject.result(dataset, FEW_SHOT, found, about)


def _questions(images: LabelledFeatures, labels: Tensor, classes: ClassList) -> dict[str, str]:
    """Identify questions by class names, so that the order of the classes changes no question."""
    names = classes.prompts.names
    among = range(len(names)) if classes.subset is None else classes.subset
    right = [names[label] for label in labels.tolist()]
    return questions_of(images.keys, right, **{CLASSES: sorted(names[i] for i in among)})


def _means(summary: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the means over seeds, named like "lp_acc1@4" for 4 images of each class."""
    return {
        f"{name}@{row['fewshot_k']}": value["mean"]
        for row in summary
        for name, value in row.items()
        if isinstance(value, Mapping)
    }


def _shared(pairs: PairFeatures) -> int:
    """Count the captions whose features equal the features of another image's caption."""
    texts = distinct(digests(pairs.text_features))
    images = torch.stack([texts, pairs.text_to_image]).unique(dim=1)[0].bincount()
    return int((images > 1)[texts].sum())


def _part(subject: Subject, images: LabelledFeatures) -> tuple[Tensor, Tensor]:
    return images.image_features.to(subject.ready.device), images.labels
