"""Where a run writes: a directory of its name, which no other run has or uses."""

import contextlib
import datetime
import shutil
from dataclasses import replace
from pathlib import Path

from fastclip.distributed.processes import Processes
from fastclip.train.run.directory_lock import FILE_NAME, DirectoryLock
from fastclip.train.settings.output_config import ALLOW_FRESH, LATEST
from fastclip.train.settings.run_config import RunConfig

# What a start writes before a run begins: the log, and what reporters of numbers keep there.
BEGINNING = (FILE_NAME, "out.log", "params.txt", "results.jsonl", "tensorboard", "wandb")


class RunDirectory:
    """The directory of a run, made and locked by the first rank.

    Attributes:
        path: where it is.
        config: the settings, with a name.
        caution: why another run in it might not be noticed, or None.

    Raises:
        ValueError: on all ranks, if the settings do not fit the directory, which has a run for
            example, or if another process runs in it.
        OSError: on all ranks, if it cannot be made.
    """

    def __init__(self, config: RunConfig, processes: Processes) -> None:
        self._lock: DirectoryLock | None = None
        self._is_new = False
        world_size = processes.world_size
        try:
            self.config, self.path = processes.agree(lambda: self._take(config, world_size))
        except (ValueError, OSError):
            self.close()
            raise
        self.caution = None if self._lock is None else self._lock.caution

    def close(self) -> None:
        """Let other runs have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """The same after a start that has failed: a directory that was made for it is removed.

        What is removed is what a start writes; a directory with anything else stays.
        """
        if self._lock is not None and self._is_new:
            _remove_beginning(self._lock.path.parent)
        self.close()

    def _take(self, config: RunConfig, world_size: int) -> tuple[RunConfig, Path]:
        if config.name is None:
            if config.resume in (LATEST, ALLOW_FRESH):
                raise ValueError(f"--resume {config.resume} needs the --name of the run")
            config = replace(config, name=_made_name(config, world_size))
        if config.train_data is None and config.dataset_type != "synthetic":
            raise ValueError(
                "--train-data must be given: tar shards, a .csv or .tsv, a folder, a Hugging Face "
                "data set (--dataset-type hf) or digits"
            )
        path = Path(config.logs) / config.name
        self._is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        self._lock = DirectoryLock(path)
        checkpoints = path / "checkpoints"
        if config.resume is None and checkpoints.is_dir() and any(checkpoints.iterdir()):
            raise ValueError(f"{path} has a run: choose another --name, or --resume latest")
        checkpoints.mkdir(exist_ok=True)
        return config, path


def _remove_beginning(path: Path) -> None:
    """Remove what a start has written, and the directory if nothing else is in it."""
    for name in BEGINNING:
        if (path / name).is_dir():
            shutil.rmtree(path / name, ignore_errors=True)
        else:
            (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else is in one of them
        (path / "checkpoints").rmdir()
        path.rmdir()


def _made_name(config: RunConfig, world_size: int) -> str:
    global_batch_size = config.arithmetic(world_size).global_batch_size
    model = config.model.replace("/", "-")
    return (
        f"{datetime.datetime.now():%Y_%m_%d-%H_%M_%S}-model_{model}-lr_{config.lr}-"
        f"b_{global_batch_size}-j_{config.workers}-p_{config.precision or 'default'}"
    )
