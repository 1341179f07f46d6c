"""Evaluate a model on a data set in every task that the data allow, as `fastclip eval` does.

Images are encoded once, and all tasks use the same features.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastclip import __version__
from fastclip.data.quoting import some_of
from fastclip.embeddings.encode import Encoder
from fastclip.evaluate.class_prompts import Templates
from fastclip.evaluate.metrics import RECALLS
from fastclip.evaluate.probe.few_shot import SHOTS
from fastclip.evaluate.results.result import Result
from fastclip.evaluate.sets.class_list import class_list
from fastclip.evaluate.sets.encoding import SetEncoder, account, data_digest, ignore
from fastclip.evaluate.sets.features import LabelledFeatures
from fastclip.evaluate.sets.labelled import LabelledSet
from fastclip.evaluate.sets.opening import PairSet
from fastclip.evaluate.tasks import (
    Subject,
    classify_task,
    few_shot_task,
    probe_task,
    retrieve_task,
)
from fastclip.evaluate.zero_shot_task import Labels
from fastclip.models.inference import InferenceModel

ZERO_SHOT, RETRIEVAL, PROBE, FEW_SHOT = "zero-shot", "retrieval", "probe", "few-shot"
TASKS = (ZERO_SHOT, RETRIEVAL, PROBE, FEW_SHOT)
TRAINED = (PROBE, FEW_SHOT)  # the tasks that need images to train on
ALL = "all"
NAMED = 5  # classes in a message


def tasks_of(
    data: LabelledSet | PairSet, wanted: Sequence[str] | None = None, is_trained: bool = False
) -> tuple[str, ...]:
    """Return the tasks that will run on a set.

    Args:
        wanted: names in `TASKS`, or "all" for every task that the data allow. None stands for
            retrieval on pairs, and on labelled images for zero-shot classification along with a
            linear probe, if there are images to train the probe on.
        is_trained: whether there are images to train probes on.

    Returns:
        The wanted tasks that the data allow; perhaps none.
    """
    possible = (RETRIEVAL,) if isinstance(data, PairSet) else (ZERO_SHOT, *TRAINED)
    if wanted is None:
        wanted = (RETRIEVAL, ZERO_SHOT, *((PROBE,) if is_trained else ()))
    elif ALL in wanted:
        wanted = (RETRIEVAL, ZERO_SHOT, *(TRAINED if is_trained else ()))
    return tuple(task for task in possible if task in wanted)


def evaluate_data(
    ready: InferenceModel,
    data: LabelledSet | PairSet,
    tasks: Sequence[str] | None = None,
    *,
    train: LabelledSet | None = None,
    classes: Sequence[str] | str | os.PathLike | None = None,
    templates: Templates | None = None,
    subset: Sequence[str] | str | os.PathLike | None = None,
    recall_at: Sequence[int] = RECALLS,
    shots: Sequence[int] = SHOTS,
    seeds: int = 3,
    batch_size: int = 64,
    workers: int = 0,
    max_bad_rate: float = 0.1,
    pretrained: str = "",
    features: str | os.PathLike | None = None,
    say: Callable[[str], None] = ignore,
) -> list[Result]:
    """Evaluate a model on a data set.

    Args:
        ready: the model; see `open_model`.
        data: labelled images or pairs; see `fastclip.evaluate.sets.opening.open_set`.
        tasks: see `tasks_of`.
        train: labelled images of the same classes, to train probes on.
        classes, templates, subset: names and prompts of the classes, and the classes to which the
            images may belong; see `fastclip.evaluate.sets.class_list.class_list`.
        recall_at: the values of K for R@K.
        shots, seeds: how many images of each class few-shot probes are trained on, and how many
            times these images are drawn.
        batch_size: images, and prompts, that are encoded at once.
        workers: processes that read and decode images; with 0, this process does.
        max_bad_rate: the fraction of samples that may be unreadable. Unreadable samples are counted
            in the results and reported to `say`.
        pretrained: the tag of the weights, for the results.
        features: a folder that stores the features of images and captions; the next call reads
            them from there. Features of another model or of other data raise a ValueError.
        say: called with messages, such as the number of samples that were skipped.

    Returns:
        A result for each task, in the order of `TASKS`.

    Raises:
        DataError: more samples are bad than `max_bad_rate` allows.
        OSError, ValueError: a file of names or prompts cannot be read; the classes do not fit the
            data; the stored features belong to another model or to other data; a task is unknown,
            is not possible with these data, or has no images to train on.

    Example:
        >>> ready = open_model("demo-output/checkpoint.pt")
        >>> (found,) = evaluate_data(ready, open_set("digits"))
        >>> found.metrics["acc1"], found.found["intervals"]["acc1"]
    """
    todo = _checked(data, tasks, train)
    subject = Subject(ready, Encoder.of(ready), pretrained, batch_size)
    folder = None if features is None else Path(features)
    encoder = SetEncoder(ready, batch_size, workers, max_bad_rate, folder, say)
    if isinstance(data, PairSet):
        pairs = encoder.pairs(data)
        about = _about(ready, data, account(data, pairs.bad), len(pairs.keys))
        return [retrieve_task(subject, data.name, pairs, about, recall_at)]
    # Errors in names and prompts must come before the encoding of images, which may take hours.
    listed = class_list(data, classes, templates, subset) if ZERO_SHOT in todo else None
    if listed is not None and listed.said is not None:
        say(listed.said)
    images = encoder.labelled(data)
    about = _about(ready, data, account(data, images.bad), len(images.keys))
    results = []
    if listed is not None:
        results.append(classify_task(subject, data.name, images, listed, about))
    if train is None:
        return results
    trained = encoder.labelled(train)
    about |= {"train": _origin(train, account(train, trained.bad), len(trained.keys))}
    names = _names_of(data, (images, trained))
    with _warnings_said(say):
        if PROBE in todo:
            results.append(probe_task(subject, data.name, trained, images, names, about))
        if FEW_SHOT in todo:
            results.append(
                few_shot_task(subject, data.name, trained, images, names, about, shots, seeds)
            )
    return results


@contextlib.contextmanager
def _warnings_said(say: Callable[[str], None]) -> Iterator[None]:
    """Pass the warnings of a probe, about its C or its convergence, to `say`."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    for sentence in dict.fromkeys(str(warning.message) for warning in found):
        say(sentence)


def _checked(
    data: LabelledSet | PairSet, tasks: Sequence[str] | None, train: LabelledSet | None
) -> tuple[str, ...]:
    """Return the tasks that will run, or raise a ValueError if one is not possible."""
    if unknown := set(tasks or ()) - {*TASKS, ALL}:
        raise ValueError(f"a task must be one of {', '.join(TASKS)}, got {sorted(unknown)[0]!r}")
    todo = tasks_of(data, tasks, train is not None)
    kind = "pairs" if isinstance(data, PairSet) else "labelled images"
    for task in [] if tasks is None or ALL in tasks else tasks:
        if task not in todo:
            raise ValueError(f"{data.name} consists of {kind}, which do not allow the task {task}")
    is_to_train = any(task in TRAINED for task in todo)
    if is_to_train and train is None:
        raise ValueError(
            f"{data.name}: a probe needs images to train on; give labelled images as train "
            "(--train-data)"
        )
    if train is None:
        return todo
    if not is_to_train:
        raise ValueError(
            f"{data.name}: train (--train-data) is {train.name}, but none of the tasks trains a "
            f"probe; choose the task {' or '.join(TRAINED)}, or leave it out"
        )
    if train.labels != data.labels:
        raise ValueError(
            f"{train.name} and {data.name} must have the same classes, because a probe trains on "
            f"one and is tested on the other; got {_described(train)} and {_described(data)}"
        )
    if train.source is data.source or data_digest(train.source) == data_digest(data.source):
        raise ValueError(
            f"{train.name} and {data.name} are the same images; give other images to train on"
        )
    return todo


def _described(data: LabelledSet) -> str:
    if isinstance(data.labels, Labels):
        return f"{len(data.labels.classes)} ({some_of(data.labels.classes, NAMED)})"
    return "numbers"


def _names_of(data: LabelledSet, parts: Sequence[LabelledFeatures]) -> Sequence[str] | None:
    """Return the data's own class names, or None if a label exceeds them; a probe needs none."""
    names = data.class_names
    largest = max(int(part.labels.max()) for part in parts)
    return None if names is None or largest >= len(names) else names


def _origin(data: LabelledSet | PairSet, skipped: dict[str, Any], num: int) -> dict[str, Any]:
    return {
        "dataset": data.name, "split": data.split, "samples": num, "skipped": skipped,
        "data": data_digest(data.source),
    }  # fmt: skip


def _about(
    ready: InferenceModel, data: LabelledSet | PairSet, skipped: dict[str, Any], num: int
) -> dict[str, Any]:
    scale = ready.logit_scale
    return {
        "split": data.split, "samples": num, "skipped": skipped,
        "digests": {**ready.digests._asdict(), "data": data_digest(data.source)},
        "precision": ready.precision.name, "logit_scale": scale if math.isfinite(scale) else None,
        "fastclip": __version__,
    }  # fmt: skip
