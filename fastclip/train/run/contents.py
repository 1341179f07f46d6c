"""Finds the contents of a run's model and data, by which a checkpoint recognises them.

`checkpoints/contents.py` stores and compares these contents.
"""

import hashlib
import time
from collections.abc import Callable

from fastclip.data.sources.source import Contents
from fastclip.distributed.processes import Processes
from fastclip.evaluate.zero_shot_task import ZeroShotTask
from fastclip.models.open_clip_config import to_json
from fastclip.train.checkpoints.contents import MODEL, TRAIN, VALIDATION, contents_of_config
from fastclip.train.run.data import TrainingData
from fastclip.train.run.evaluation_data import EvaluationData
from fastclip.train.run.model import RunModel
from fastclip.train.run.teachers import Teachers

LONG_LOOK = 1.0  # seconds from which on the log mentions the time
PROBE = ["two cats", "Zoë's 7 No. 1"]  # few tokens: a context may be short


def contents_of_model(run_model: RunModel) -> Contents:
    """Return the architecture, how images are prepared, and a digest of the tokens of two texts."""
    preprocess = getattr(run_model.model.visual, "preprocess_cfg", {})
    tokens = run_model.tokenizer(PROBE).tolist()
    return [
        *contents_of_config(to_json(run_model.model.config)),
        *((f"preprocess_cfg.{name}", repr(value)) for name, value in sorted(preprocess.items())),
        ("tokenizer", hashlib.sha256(repr(tokens).encode()).hexdigest()[:12]),
    ]


def contents_of_run(
    run_model: RunModel,
    data: TrainingData,
    evaluated: EvaluationData,
    teachers: Teachers | None,
    processes: Processes,
    say: Callable[[str], None],
) -> dict[str, Contents]:
    """Return the contents of a run by subject. The first rank looks at the files for all ranks.

    Args:
        say: called with a sentence if this has taken long.

    Raises:
        ValueError: the embeddings of a teacher were made from other data.
    """
    started = time.perf_counter()
    found = processes.broadcast(
        _look(run_model, data, evaluated, teachers) if processes.is_first else None
    )
    data.loader.contents = found[TRAIN]
    if teachers is not None:
        teachers.require_data(data)
    if (seconds := time.perf_counter() - started) > LONG_LOOK:
        say(f"looking at the contents of model and data, once per run, took {seconds:.1f} s")
    return found


def _look(
    run_model: RunModel, data: TrainingData, evaluated: EvaluationData, teachers: Teachers | None
) -> dict[str, Contents]:
    found = {MODEL: contents_of_model(run_model), TRAIN: data.loader.contents}
    if teachers is not None:
        found |= teachers.contents()
    if evaluated.validation is not None:
        found[VALIDATION] = evaluated.validation.contents()
    return found | {task.name: _contents_of_task(task) for task in evaluated.tasks}


def _contents_of_task(task: ZeroShotTask) -> Contents:
    classes = [(f"class {i + 1}", repr(name)) for i, name in enumerate(task.class_names)]
    prompts = [(f"template {i + 1}", repr(text)) for i, text in enumerate(task.templates)]
    return [*task.source.contents(), *classes, *prompts]
