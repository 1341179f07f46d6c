"""The data that a run is evaluated on, on one rank."""

from collections import Counter
from collections.abc import Callable

from torch import Tensor

from fastclip.data.loading.first_look import require_readable
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.source import Source
from fastclip.distributed.processes import Processes
from fastclip.evaluate.zero_shot_task import ZeroShotTask, open_imagenet, open_task
from fastclip.train.run.data import notices_of, separator_of, settings_of_loaders
from fastclip.train.run.model import RunModel
from fastclip.train.run.pairs import open_pairs
from fastclip.train.settings.data_config import MADE_TYPES
from fastclip.train.settings.evaluation_config import EvaluationConfig

MAX_NAMED = 10  # classes in a line of the log


class EvaluationData:
    """The validation pairs and the zero-shot tasks of a run.

    Args:
        batch_size: the number of pairs or images that are encoded at a time.

    Attributes:
        validation: the pairs to evaluate retrieval on, or None.
        tasks: the zero-shot tasks, which may be none.

    Raises:
        OSError, ValueError: the data does not exist, or cannot be read.
        ModuleNotFoundError: the data needs a package that is not installed.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        run_model: RunModel,
        processes: Processes,
        batch_size: int,
        seed: int,
    ) -> None:
        self._run_model, self._config = run_model, config
        self._settings = settings_of_loaders(config, processes, batch_size, seed)
        self.validation = None
        if config.val_data is not None:
            kind = "auto" if config.dataset_type in MADE_TYPES else config.dataset_type
            self.validation = open_pairs(config, "--val-data", config.val_data, kind, run_model)
        self.tasks = _open_tasks(config)
        self._look_at_what_is_read_late()

    def _look_at_what_is_read_late(self) -> None:
        """Require that evaluation data can be read, which would otherwise fail after an epoch."""
        run_model, config = self._run_model, self._config
        late = [(task.name, task.source, task.labels) for task in self.tasks]
        if self.validation is not None and config.val_frequency:
            late.append(("--val-data", self.validation, run_model.tokenizer))
        for name, source, tokenizer in late:
            require_readable(name, source, run_model.val_transform, tokenizer, config.max_bad_rate)

    def descriptions(self) -> list[str]:
        """Return sentences about how validation data is read, and about the zero-shot tasks."""
        said = None
        if self.validation is not None:
            said = separator_of("--val-data", self.validation, self._config)
        return [*([] if said is None else [said]), *self._of_tasks()]

    def _of_tasks(self) -> list[str]:
        return [
            f"{task.name}: {len(task.source):,} images of {len(task.class_names):,} classes: "
            + ", ".join(task.source.classes[:MAX_NAMED])
            + (", ..." if len(task.source.classes) > MAX_NAMED else "")
            + _shared_names(task)
            for task in self.tasks
        ]

    def notices(self) -> list[str]:
        """Return the warnings of `notices_of` about all data."""
        sources = [(task.name, task.source) for task in self.tasks]
        if self.validation is not None:
            sources.insert(0, ("--val-data", self.validation))
        return [text for name, source in sources for text in notices_of(name, source, self._config)]

    def validation_loader(self) -> PairLoader:
        """Return a loader of this rank's share of the validation pairs, in order."""
        return self._in_order(self.validation, self._run_model.tokenizer)

    def task_loader(self, task: ZeroShotTask) -> PairLoader:
        """Return a loader of this rank's share of the images of a task, in order.

        Its batches have (B, 1) labels in place of tokens.
        """
        return self._in_order(task.source, task.labels)

    def _in_order(self, source: Source, tokenizer: Callable[[list[str]], Tensor]) -> PairLoader:
        return PairLoader(
            source, self._run_model.val_transform, tokenizer, shuffle_buffer=1, drop_last=False,
            **self._settings,
        )  # fmt: skip


def _open_tasks(config: EvaluationConfig) -> list[ZeroShotTask]:
    if config.zeroshot_frequency == 0:
        return []
    tasks = []
    if config.imagenet_val is not None:
        tasks.append(open_imagenet(config.imagenet_val))
    if config.imagenet_v2 is not None:
        tasks.append(open_imagenet(config.imagenet_v2, "imagenetv2-zeroshot-val"))
    if config.zeroshot_data is not None:
        tasks.append(
            open_task(config.zeroshot_data, config.zeroshot_classes, config.zeroshot_templates)
        )
    return tasks


def _shared_names(task: ZeroShotTask) -> str:
    shared = [name for name, num in Counter(task.class_names).items() if num > 1]
    if not shared:
        return ""
    return (
        f"; several classes have the name {', '.join(map(repr, shared[:MAX_NAMED]))}, of which "
        "only the first can be predicted"
    )
