"""What a run trains on and is evaluated on, on one rank."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor

from fastclip.data.loading.bad_samples import skipped_summary
from fastclip.data.loading.first_look import require_readable
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.opening import find_type, open_source
from fastclip.data.sources.source import Source
from fastclip.data.sources.tar_shards import TarSource
from fastclip.distributed.processes import Processes
from fastclip.evaluate.zero_shot_task import ZeroShotTask, open_imagenet, open_task
from fastclip.train.run.model import RunModel
from fastclip.train.settings.run_config import MADE_TYPES, RunConfig

MAX_NAMED = 10  # classes in a line of the log


class RunData:
    """Attributes:
    train: loader of this rank's micro-batches.
    steps_per_epoch: optimiser steps.
    validation: pairs to be evaluated by retrieval, or None.
    tasks: to be evaluated zero-shot; maybe none.

    Raises:
        OSError, ValueError: there is no such data, or less of it than a batch.
        ModuleNotFoundError: data needs a package that is not installed.
    """

    def __init__(self, config: RunConfig, run_model: RunModel, processes: Processes) -> None:
        self._run_model, self._config = run_model, config
        arithmetic = config.arithmetic(processes.world_size)
        self._settings: dict[str, Any] = {
            "batch_size": arithmetic.micro_batch_size,
            "seed": config.seed,
            "rank": processes.rank,
            "world_size": processes.world_size,
            "num_workers": config.workers,
            "max_bad_rate": config.max_bad_rate,
        }
        settings = {
            "separator": config.csv_separator,
            "image_size": run_model.model.config.vision_cfg.image_size,
        }
        source = open_source(
            config.train_data, config.dataset_type, num_samples=config.train_num_samples,
            **settings, **_keys(config, config.train_data, config.dataset_type),
        )  # fmt: skip
        self.steps_per_epoch = _num_steps(config, source, arithmetic.global_batch_size)
        self.train = PairLoader(
            source, run_model.train_transform, run_model.tokenizer,
            shuffle_buffer=config.shuffle_buffer,
            batches_per_epoch=self.steps_per_epoch * arithmetic.num_micro_batches,
            **self._settings,
        )  # fmt: skip
        self.validation = None
        if config.val_data is not None:
            kind = "auto" if config.dataset_type in MADE_TYPES else config.dataset_type
            keys = _keys(config, config.val_data, kind)
            self.validation = open_source(config.val_data, kind, **settings, **keys)
        self.tasks = _open_tasks(config)
        self._sources = {"--train-data": source, "--val-data": self.validation}
        self._sources |= {task.name: task.source for task in self.tasks}
        self._look_at_what_is_read_late()

    def _look_at_what_is_read_late(self) -> None:
        """Training data that cannot be used ends a run at its first step, other data much later."""
        run_model, config = self._run_model, self._config
        late = [(task.name, task.source, task.labels) for task in self.tasks]
        if self.validation is not None and config.val_frequency:
            late.append(("--val-data", self.validation, run_model.tokenizer))
        for name, source, tokenizer in late:
            require_readable(name, source, run_model.val_transform, tokenizer, config.max_bad_rate)

    def descriptions(self) -> list[str]:
        """Say what is classified zero-shot."""
        return [
            f"{task.name}: {len(task.source):,} images of {len(task.class_names):,} classes: "
            + ", ".join(task.source.classes[:MAX_NAMED])
            + (", ..." if len(task.source.classes) > MAX_NAMED else "")
            + _shared_names(task)
            for task in self.tasks
        ]

    def notices(self) -> list[str]:
        """Say which files of the data are no part of a sample, as far as is known by now.

        Say also which flags have no effect on data whose type had to be found (of a type that is
        given, `idle_settings` says so).
        """
        notices = []
        for name, source in self._sources.items():
            if source is not None and source.skipped():
                notices.append(f"{name}: {skipped_summary(source.skipped())}")
            is_found = self._config.dataset_type in ("auto", *MADE_TYPES)
            if is_found and isinstance(source, TarSource | FolderSource):
                notices += [
                    f"{name} is no table: --csv-{flag} has no effect on it, --{own} has"
                    for flag, own in (("img-key", "image-key"), ("caption-key", "caption-key"))
                    if getattr(self._config, f"csv_{flag.replace('-', '_')}") is not None
                ]
        return notices

    def validation_loader(self) -> PairLoader:
        """This rank's share of the validation pairs, in order."""
        return self._in_order(self.validation, self._run_model.tokenizer)

    def task_loader(self, task: ZeroShotTask) -> PairLoader:
        """This rank's share of the images of a task, in order, with (B, 1) labels for tokens."""
        return self._in_order(task.source, task.labels)

    def _in_order(self, source: Source, tokenizer: Callable[[list[str]], Tensor]) -> PairLoader:
        return PairLoader(
            source, self._run_model.val_transform, tokenizer, shuffle_buffer=1, drop_last=False,
            **self._settings,
        )  # fmt: skip


def _keys(config: RunConfig, spec: str | None, dataset_type: str) -> dict[str, str | None]:
    """What images and captions are called: columns of tables, or suffixes of files."""
    keys = {"image_key": config.image_key, "caption_key": config.caption_key}
    kind = find_type(spec) if dataset_type == "auto" and spec is not None else dataset_type
    if kind not in ("csv", "hf"):
        return keys
    columns = {"image_key": config.csv_img_key, "caption_key": config.csv_caption_key}
    return {name: columns[name] if key is None else key for name, key in keys.items()}


def _num_steps(config: RunConfig, source: Source, global_batch_size: int) -> int:
    num_samples = config.train_num_samples or source.num_samples()
    if num_samples is None:
        raise ValueError("the data does not say how many samples it has: --train-num-samples")
    if num_samples < global_batch_size:
        raise ValueError(
            f"{num_samples:,} samples are fewer than one batch of {global_batch_size:,}"
        )
    return num_samples // global_batch_size


def _open_tasks(config: RunConfig) -> list[ZeroShotTask]:
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
        f"; several classes have the name {', '.join(map(repr, shared[:MAX_NAMED]))}: the first "
        "class of a name is what is predicted"
    )
