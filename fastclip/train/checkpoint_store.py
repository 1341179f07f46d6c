"""The checkpoints of a run: the last few, and one per epoch; the newest that is whole.

    step_000001200.pt     every so many steps or minutes, at the end, on SIGTERM; the last K stay
    epoch_3.pt            the same file under another name, which stays; maybe epoch_latest.pt

A run that is killed leaves whole files and perhaps a temporary one, which the next run removes. One
whose disk is full leaves whole files, and its error names the newest.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastclip.train.atomic_file import objection_to, temporary_of, write_atomically, writing

STEP_NAME = re.compile(r"step_(\d+)\.pt")
EPOCH_NAME = re.compile(r"epoch_(\d+)\.pt")
TEMPORARY_NAME = re.compile(r"\.(step|epoch)_\w+\.pt\.\d+")


# What file systems say that cannot give a file a second name: exFAT, some of networks.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class CheckpointNotWritten(OSError):
    """A checkpoint cannot be written; the message says which one is still good.

    Attributes:
        errno: the system's number of the reason, if there is one.
    """


class Found(NamedTuple):
    path: Path
    content: dict[str, Any]


class CheckpointStore:
    """Writes and finds the checkpoints in a directory, which one process writes at a time.

    Args:
        directory: made if it is not there.
        keep_last: how many `step_` files stay; None for all.

    Raises:
        ValueError: `keep_last` < 1.
    """

    def __init__(self, directory: str | os.PathLike, keep_last: int | None = 3) -> None:
        if keep_last is not None and keep_last < 1:
            raise ValueError(f"keep_last must be at least 1 or None, got {keep_last}")
        self.directory = Path(directory)
        self.keep_last = keep_last
        self.directory.mkdir(parents=True, exist_ok=True)

    def remove_temporaries(self) -> None:
        """Remove what a killed process left; to be called by the one process that writes."""
        for path in self.directory.iterdir():
            if TEMPORARY_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def save(self, content: dict[str, Any], step: int, names: Sequence[str] = ()) -> Path:
        """Write `content` as the checkpoint after `step`.

        Args:
            names: of files that the same content stays under, such as "epoch_3.pt".

        Raises:
            CheckpointNotWritten: the disk refuses; older checkpoints are as they were.
        """
        path = self.write(f"step_{step:09d}.pt", content)
        for name in names:
            with self._naming_what_is_good():
                self._link(path, self.directory / name)
        self._prune()
        return path

    def write(self, name: str, content: dict[str, Any]) -> Path:
        """Write `content` to the file of that name; raises as `save`."""
        path = self.directory / name
        with self._naming_what_is_good():
            write_atomically(path, content)
        return path

    def paths(self) -> list[Path]:
        """All checkpoints, newest first; those of epochs alone after those of steps."""
        files = [path for path in self.directory.iterdir() if path.is_file()]
        by_number = [
            sorted(
                (path for path in files if pattern.fullmatch(path.name)),
                key=lambda path: int(pattern.fullmatch(path.name)[1]),
                reverse=True,
            )
            for pattern in (STEP_NAME, EPOCH_NAME)
        ]
        return [*by_number[0], *by_number[1]]

    def newest(self, tell: Callable[[str], None] = lambda text: None) -> Found | None:
        """The newest checkpoint that is whole, read on the CPU, or None.

        Args:
            tell: called with a sentence about each one that is skipped, and why.
        """
        path = self.newest_path(tell)
        if path is None:
            return None
        return Found(path, torch.load(path, map_location="cpu", weights_only=True))

    def newest_path(self, tell: Callable[[str], None] = lambda text: None) -> Path | None:
        """Where that is, with its checksums read and nothing loaded."""
        for path in self.paths():
            objection = objection_to(path)
            if objection is None:
                return path
            tell(f"{path} is skipped: {objection}")
        return None

    @contextlib.contextmanager
    def _naming_what_is_good(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            good = self.newest_path()
            which = "there is no other checkpoint" if good is None else f"{good} is still good"
            told = CheckpointNotWritten(f"the checkpoint {error}; {which}")
            told.errno = error.errno
            raise told from error

    def _link(self, path: Path, name: Path) -> None:
        """Give a file a second name, or copy it where names cannot be shared."""
        temporary = temporary_of(name)
        temporary.unlink(missing_ok=True)
        try:
            with writing(name):
                try:
                    os.link(path, temporary)
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    shutil.copyfile(path, temporary)
                os.replace(temporary, name)
        finally:
            temporary.unlink(missing_ok=True)

    def _prune(self) -> None:
        if self.keep_last is not None:
            steps = [path for path in self.paths() if STEP_NAME.fullmatch(path.name)]
            for path in steps[self.keep_last :]:
                path.unlink(missing_ok=True)
