"""The directory of a run, which has the run's name and which no other run may use."""

import contextlib
import datetime
import shutil
from dataclasses import replace
from pathlib import Path

from fastclip.distributed.processes import Processes
from fastclip.train.run.directory_lock import FILE_NAME, DirectoryLock
from fastclip.train.settings.output_config import ALLOW_FRESH, LATEST
from fastclip.train.settings.run_config import RunConfig

# The files that exist before the first step: the log, and the files of reporters.
BEGINNING = (FILE_NAME, "out.log", "params.txt", "results.jsonl", "tensorboard", "wandb")


class RunDirectory:
    """The directory of a run, which the first rank creates and locks.

    Attributes:
        path: of the directory.
        config: the settings, with a name.
        caution: why another run in this directory might go unnoticed, or None.

    Raises:
        ValueError: on all ranks, if the settings do not fit the directory (it may hold another
            run), or if another process runs in it.
        OSError: on all ranks, if the directory cannot be created.
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
        """Release the directory to other runs."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Close the directory after a failed start, and remove it if it was made for this run.

        Only the files that a start writes are removed; a directory with any other file stays.
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
                "--train-data must be given: tar shards, a .csv or .tsv table, a folder, a Hugging "
                "Face data set (--dataset-type hf) or digits"
            )
        path = Path(config.logs) / config.name
        self._is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        self._lock = DirectoryLock(path)
        checkpoints = path / "checkpoints"
        if config.resume is None and checkpoints.is_dir() and any(checkpoints.iterdir()):
            raise ValueError(
                f"{path} has a run already: choose another --name, or resume that run with "
                "--resume latest"
            )
        checkpoints.mkdir(exist_ok=True)
        return config, path


def _remove_beginning(path: Path) -> None:
    """Remove the files that a start writes, and the directory if nothing else is in it."""
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
