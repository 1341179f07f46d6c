"""Write files atomically: a file is complete or missing, however the writing process ends.

The content is written to a temporary file in the same folder and flushed to the disk; this file is
then renamed to its final name, and the rename is flushed too. So either the old or the new content
is there at every moment. The temporary name is unpredictable and must not exist before: in a folder
that others may write to, nobody can place a link there that redirects the write.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

Tell = Callable[[str], None]
# Errors of file systems without hard links: exFAT, and some network and cloud file systems.
NO_LINKS = (
    errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV,
    errno.EINVAL,
)  # fmt: skip
# Errors of file systems that cannot flush a directory.
NO_FLUSH = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EISDIR, errno.EACCES)
# How names from `temporary_beside` end: now, and in older versions with a process number.
TEMPORARY_END = r"\.(\d+|[0-9a-f]{16}\.tmp)"


class _Refused(OSError):
    """A file that the system refuses to use.

    Attributes:
        errno: the system's error number, or None if there is none.
    """

    what = "used"

    def __init__(self, path: str | os.PathLike, error: OSError) -> None:
        reason = error.strerror or error
        super().__init__(f"{os.fspath(path)} cannot be {self.what}: {reason}")
        self.errno = error.errno
        self._parts = path, error

    def __reduce__(self) -> tuple:  # pickled on its way to other ranks
        return type(self), self._parts


class CannotWrite(_Refused):
    """A file cannot be written; the message gives the path and the system's reason."""

    what = "written"


class CannotRead(_Refused):
    """A file or directory cannot be read; the message gives the path and the system's reason."""

    what = "read"


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError within the context into a `CannotWrite` that names `path`.

    Without it, a write to a full disk raises an error that does not name the file.
    """
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error) from error


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError within the context into a `CannotRead` that names `path`."""
    try:
        yield
    except OSError as error:
        raise CannotRead(path, error) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike, tell: Tell = lambda text: None) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces `path` when the context ends without an error.

    Args:
        tell: called with a message if the file system cannot flush a directory.

    Raises:
        CannotWrite: the disk or the directory refuses the write; an older file at `path` is left
            unchanged.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    with writing(path):
        file = _new_file(temporary)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _flush_directory(path.parent, tell)
        finally:
            temporary.unlink(missing_ok=True)


def name_again(path: Path, name: Path, tell: Tell = lambda text: None) -> None:
    """Give the file `path` the second name `name`, or copy it where hard links are impossible.

    Args:
        tell: called with a message if the file is copied, or if a directory cannot be flushed.

    Raises:
        CannotWrite: `name` cannot be written, as in `replacing`.
    """
    temporary = temporary_beside(name)
    with writing(name):
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            tell(
                f"the file system of {name.parent} cannot give a file a second name "
                f"({error.strerror or error}): the files of epochs are copies and need more space"
            )
            _copy(path, name, tell)
            return
        try:
            os.replace(temporary, name)
            _flush_directory(name.parent, tell)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return a new, unpredictable name in the folder of `path`, for what will become `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def remove_temporaries(directory: Path, names: str) -> None:
    """Remove the temporary files that killed processes left for files matching a pattern.

    Call it only where no other process writes these files: its temporary files would be removed
    too.

    Args:
        names: a regular expression for the names of the files.

    Raises:
        CannotRead, CannotWrite: the directory refuses.
    """
    left = re.compile(rf"\.({names}){TEMPORARY_END}")
    with reading(directory):
        paths = [path for path in directory.iterdir() if left.fullmatch(path.name)]
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def save_tensors(content: Any, file: Any) -> None:
    """Call `torch.save` on an open file; raise the system's OSError if a write fails."""
    output = _Output(file)
    try:
        torch.save(content, output)
    except RuntimeError:
        # torch notices that bytes are missing, but does not say why.
        if output.failure is None:
            raise
        raise output.failure from None


class _Output:
    """A file for `torch.save` that remembers why a write failed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _new_file(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def _copy(path: Path, name: Path, tell: Tell) -> None:
    with open(path, "rb") as source, replacing(name, tell) as copy:
        shutil.copyfileobj(source, copy, 2**20)


def _flush_directory(directory: Path, tell: Tell) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise
        tell(
            f"the file system of {directory} cannot flush a directory ({error.strerror or error}): "
            "a power failure may lose the newest file there, but no older ones"
        )
