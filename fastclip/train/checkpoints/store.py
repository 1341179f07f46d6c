"""The directory of a run's checkpoints: the last few, one per epoch, and the best.

    step_000001200.pt     every so many steps or minutes, at the end, on SIGTERM; the last K stay
    epoch_3.pt            the same file under another name, which stays; maybe epoch_latest.pt
    epoch_best.pt         likewise, of the epoch that is the best by a metric
    epoch_3_ema.pt        the average of the weights alone, from which no run can resume
    set_aside_1/          files of later steps, moved here when a run resumed from an earlier step,
                          and an epoch_best.pt that is no longer the best

So all files are of steps that led to the newest one, and the last K of them stay. A run that is
killed leaves complete files and perhaps a temporary one, which the next run removes. A run whose
disk is full leaves complete files, and its error names the newest.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastclip.atomic_file import Tell, name_again, reading, remove_temporaries, writing
from fastclip.models.checkpoints.run_files import (
    BEST_NAME,
    EPOCH_NAME,
    LATEST_NAME,
    STEP_NAME,
    newest_first,
    number_in,
)
from fastclip.train.checkpoints.file import (
    UnusableCheckpoint,
    epoch_in,
    objection_to,
    read_checkpoint,
    write_checkpoint,
)

OF_EPOCH = re.compile(r"epoch_(\d+)(_ema)?\.pt")
OF_LATEST = re.compile(r"epoch_(latest|best)(_ema)?\.pt")
OF_BEST = re.compile(r"epoch_best(_ema)?\.pt")
ANY_NAME = r"(step|epoch)_\w+\.pt"


class CheckpointNotWritten(OSError):
    """The error for a checkpoint that cannot be written; the message names the newest good one.

    Attributes:
        errno: the system's error number, if there is one.
    """


class Found(NamedTuple):
    path: Path
    content: dict[str, Any]


class CheckpointStore:
    """Writes and finds the checkpoints in a directory, which one process writes at a time.

    Args:
        directory: is created if it does not exist.
        keep_last: how many `step_` files stay; None for all.
        tell: called with a sentence about each checkpoint that is skipped, and once about each
            thing that the file system does not support.

    Raises:
        ValueError: `keep_last` < 1.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keep_last: int | None = 3,
        tell: Tell = lambda text: None,
    ) -> None:
        if keep_last is not None and keep_last < 1:
            raise ValueError(f"keep_last must be at least 1 or None, got {keep_last}")
        self.directory = Path(directory)
        self.keep_last = keep_last
        self._tell = tell
        self._told: set[str] = set()
        self.directory.mkdir(parents=True, exist_ok=True)

    def remove_temporaries(self) -> None:
        """Remove temporary files of a killed process; only the process that writes calls this."""
        remove_temporaries(self.directory, ANY_NAME)

    def save(self, content: dict[str, Any], step: int, names: Sequence[str] = ()) -> Path:
        """Write `content` as the checkpoint after `step`.

        Args:
            names: further names under which the file stays, such as "epoch_3.pt".

        Raises:
            CheckpointNotWritten: the file cannot be written; older checkpoints are as they were.
        """
        path = self.write(f"step_{step:09d}.pt", content)
        for name in names:
            self.name(path, name)
        self._prune(step)
        return path

    def write(self, name: str, content: dict[str, Any]) -> Path:
        """Write `content` to the file of that name; raises as `save`."""
        path = self.directory / name
        with self._naming_what_is_good():
            write_checkpoint(path, content, self._tell_once)
        return path

    def name(self, path: Path, name: str) -> None:
        """Give a file another name in the directory, under which it stays; raises as `save`."""
        with self._naming_what_is_good():
            name_again(path, self.directory / name, self._tell_once)

    def files(self) -> list[Path]:
        """Return all files with the name of a checkpoint, damaged ones and averages included.

        Raises:
            CannotRead: the directory cannot be read.
        """
        with reading(self.directory):
            return [p for p in self.directory.iterdir() if re.fullmatch(ANY_NAME, p.name)]

    def paths(self) -> list[Path]:
        """Return the files that a run can resume from, newest first, files of steps before epochs.

        Raises:
            CannotRead: the directory cannot be read.
        """
        return newest_first(self.files())

    def newest(self) -> Found | None:
        """Return the newest undamaged checkpoint, read on the CPU, or None.

        Damaged checkpoints are skipped with a sentence to `tell`.
        """
        for path in self.paths():
            try:
                return Found(path, read_checkpoint(path))
            except (UnusableCheckpoint, FileNotFoundError) as error:
                reason = getattr(error, "reason", "it is not there")
                self._tell(f"the checkpoint {path} is skipped: {reason}")
        return None

    def newest_path(self) -> Path | None:
        """Return the path of the newest undamaged checkpoint, or None; all bytes are checked."""
        return next((path for path in self.paths() if objection_to(path) is None), None)

    def holds(self, path: str | os.PathLike) -> bool:
        """Return whether a file is in this directory."""
        return Path(path).resolve().parent == self.directory.resolve()

    def set_aside(self, step: int, epoch: int) -> tuple[Path, int] | None:
        """Move files of steps and epochs after these into a new folder inside the directory.

        Returns:
            The folder and the number of files in it, or None if there is nothing to move.

        Raises:
            CannotWrite: the files cannot be moved.
        """
        later = [path for path in self.files() if _is_later(path, step, epoch)]
        return (self._move(later), len(later)) if later else None

    def set_aside_best(self) -> Path:
        """Move epoch_best.pt and its average into a new folder inside the directory; return it.

        Raises:
            CannotWrite: the files cannot be moved.
        """
        return self._move([path for path in self.files() if OF_BEST.fullmatch(path.name)])

    def _move(self, paths: Sequence[Path]) -> Path:
        with writing(self.directory):
            folder = self._new_folder()
            for path in paths:
                path.rename(folder / path.name)
        return folder

    @contextlib.contextmanager
    def _naming_what_is_good(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = CheckpointNotWritten(f"the checkpoint {error}; {self._what_is_good()}")
            told.errno = error.errno
            raise told from error

    def _what_is_good(self) -> str:
        try:
            good = self.newest_path()
        except OSError as error:
            return str(error)
        return "there is no other checkpoint" if good is None else f"{good} is still good"

    def prune_epochs(self, keep: int, newest: int) -> list[str]:
        """Remove files of epochs and their averages, except the `keep` newest up to epoch `newest`.

        Files of later epochs, and files without a number, such as epoch_best.pt, stay.

        Returns:
            The names of the removed files.
        """
        files = [path for path in self.files() if OF_EPOCH.fullmatch(path.name)]
        numbers = sorted({n for n in map(number_in, files) if n <= newest})
        old = set(numbers[:-keep])
        return [path.name for path in files if number_in(path) in old and self._remove(path)]

    def _prune(self, newest: int) -> None:
        """Remove the oldest files that lead to step `newest`; later files are not of this line."""
        if self.keep_last is None:
            return
        steps = [p for p in self.paths() if STEP_NAME.fullmatch(p.name) and number_in(p) <= newest]
        for path in steps[self.keep_last :]:
            self._remove(path)

    def _remove(self, path: Path) -> bool:
        """Remove a file, or say that the system refuses."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._tell_once(f"{path} cannot be removed ({error.strerror}) and stays")
            return False
        return True

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _new_folder(self) -> Path:
        for number in itertools.count(1):
            with contextlib.suppress(FileExistsError):
                (folder := self.directory / f"set_aside_{number}").mkdir()
                return folder
        raise AssertionError("numbers do not end")


def is_name_of_epoch(name: str) -> bool:
    """Return whether the checkpoint of an epoch stays under this name."""
    return name in (LATEST_NAME, BEST_NAME) or EPOCH_NAME.fullmatch(name) is not None


def _is_later(path: Path, step: int, epoch: int) -> bool:
    if STEP_NAME.fullmatch(path.name):
        return number_in(path) > step
    if OF_EPOCH.fullmatch(path.name):
        return number_in(path) > epoch
    if not OF_LATEST.fullmatch(path.name):
        return False
    of = epoch_in(path)  # the name does not say which epoch it is
    return of is None or of > epoch
