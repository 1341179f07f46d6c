"""Where a run writes: a directory of its name, which no other run has or uses."""

import datetime
from dataclasses import replace
from pathlib import Path

from fastclip.distributed.processes import Processes
from fastclip.train.run.directory_lock import DirectoryLock
from fastclip.train.settings.output_config import ALLOW_FRESH, LATEST
from fastclip.train.settings.run_config import RunConfig


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
        try:
            self.config, self.path = processes.agree(lambda: self._take(config))
        except (ValueError, OSError):
            self.close()
            raise
        self.caution = None if self._lock is None else self._lock.caution

    def close(self) -> None:
        """Let other runs have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take(self, config: RunConfig) -> tuple[RunConfig, Path]:
        if config.name is None:
            if config.resume in (LATEST, ALLOW_FRESH):
                raise ValueError(f"--resume {config.resume} needs the --name of the run")
            config = replace(config, name=_made_name(config))
        if config.train_data is None and config.dataset_type != "synthetic":
            raise ValueError(
                "--train-data must be given: tar shards, a .csv or .tsv, a folder, a Hugging Face "
                "data set (--dataset-type hf) or digits"
            )
        path = Path(config.logs) / config.name
        path.mkdir(parents=True, exist_ok=True)
        self._lock = DirectoryLock(path)
        checkpoints = path / "checkpoints"
        if config.resume is None and checkpoints.is_dir() and any(checkpoints.iterdir()):
            raise ValueError(f"{path} has a run: choose another --name, or --resume latest")
        checkpoints.mkdir(exist_ok=True)
        return config, path


def _made_name(config: RunConfig) -> str:
    model = config.model.replace("/", "-")
    return (
        f"{datetime.datetime.now():%Y_%m_%d-%H_%M_%S}-model_{model}-lr_{config.lr}-"
        f"b_{config.batch_size}-j_{config.workers}-p_{config.precision or 'default'}"
    )
