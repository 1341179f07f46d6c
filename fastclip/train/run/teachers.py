"""All teachers of a distillation: models that are computed, and embeddings that are stored."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from fastclip.data.sources.source import Contents
from fastclip.distributed.processes import Processes
from fastclip.models.tower_precision import TowerPrecision
from fastclip.train.checkpoints.contents import STORED_TEACHER, TEACHER
from fastclip.train.run.data import TrainingData
from fastclip.train.run.model import RunModel
from fastclip.train.run.step_batch import StepBatch
from fastclip.train.run.stored_teachers import StoredTeacher, StoredTeachers, names_of
from fastclip.train.run.teacher import Taught, Teacher, open_computed_teachers
from fastclip.train.settings.run_config import RunConfig


class Teachers:
    """Args:
    computed: teachers that encode every batch.
    stored: teachers whose embeddings come with the batch, under the names of `names_of`.
    device: of the run.
    """

    def __init__(
        self,
        computed: Sequence[Teacher],
        stored: Sequence[StoredTeacher] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self.computed, self.stored, self.device = list(computed), list(stored), device

    def __call__(self, batch: StepBatch) -> dict[str, Any]:
        """Return the keyword arguments of a `DistillClipLoss` for all pairs in their order."""
        found = [teacher(batch.pairs) for teacher in self.computed]
        for number, teacher in enumerate(self.stored):
            images, texts = (
                batch.facts[name].to(self.device, non_blocking=True) for name in names_of(number)
            )
            found.append(Taught(images, texts, teacher.logit_scale))
        # A single teacher's outputs as open_clip's loss takes them, which a run may be given.
        taught = found[0] if len(found) == 1 else map(list, zip(*found, strict=True))
        names = "dist_image_features", "dist_text_features", "dist_logit_scale"
        return dict(zip(names, taught, strict=True))

    def require_data(self, data: TrainingData) -> None:
        """Raise ValueError if embeddings were made from other data than the run trains on."""
        for teacher in self.stored:
            teacher.require_data(data.digest, data.name)

    def contents(self) -> dict[str, Contents]:
        """Return what the features depend on, by subject; see `contents.py`."""
        found = {TEACHER: _contents_of(self.computed), STORED_TEACHER: _contents_of(self.stored)}
        return {subject: contents for subject, contents in found.items() if contents}

    def descriptions(self) -> list[str]:
        """Return a line about each teacher for the log."""
        return [
            *(f"teacher {t.ready.name}: {t.num_parameters:,} parameters" for t in self.computed),
            *(teacher.description() for teacher in self.stored),
        ]


class _Known(Protocol):
    def contents(self) -> Contents: ...


def _contents_of(teachers: Sequence[_Known]) -> Contents:
    """Return the contents of all teachers; names of the first have no number, as with only one."""
    return [
        (f"{name} of teacher {number}" if number > 1 else name, value)
        for number, teacher in enumerate(teachers, start=1)
        for name, value in teacher.contents()
    ]


def open_teachers(
    config: RunConfig,
    run_model: RunModel,
    processes: Processes,
    precision: TowerPrecision,
    stored: StoredTeachers | None,
) -> Teachers | None:
    """Open the computed teachers and add the stored ones; return None if there are none.

    Raises:
        ValueError, OSError, CheckpointError: see `open_computed_teachers`.
    """
    computed = open_computed_teachers(config, run_model, processes, precision)
    opened = [] if stored is None else stored.teachers
    return Teachers(computed, opened, processes.device) if computed or opened else None
