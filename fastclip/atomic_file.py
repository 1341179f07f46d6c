"""Files that are whole or not there, whatever ends the process that writes them.

A file is written beside its place, flushed to the disk, then renamed onto it, and the rename is
flushed too: at every moment the old content or the new one is there. What is written beside has a
name that nobody can foresee, and must not exist before: in a folder that others may write to, no
link that was laid there leads a write elsewhere.
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
# What file systems say that cannot give a file a second name: exFAT, some of networks and clouds.
NO_LINKS = (
    errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV,
    errno.EINVAL,
)  # fmt: skip
# What they say that cannot flush a directory.
NO_FLUSH = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EISDIR, errno.EACCES)
# How `temporary_beside` ends a name, and how it did when process numbers made names apart.
TEMPORARY_END = r"\.(\d+|[0-9a-f]{16}\.tmp)"


class _Refused(OSError):
    """Attributes:
    errno: the system's number of the reason, if there is one.
    """

    what = "used"

    def __init__(self, path: str | os.PathLike, error: OSError) -> None:
        reason = error.strerror or error
        super().__init__(f"{os.fspath(path)} cannot be {self.what}: {reason}")
        self.errno = error.errno
        self._parts = path, error

    def __reduce__(self) -> tuple:  # on its way to other ranks
        return type(self), self._parts


class CannotWrite(_Refused):
    """A file cannot be written; the message has its path and the reason that the system gives."""

    what = "written"


class CannotRead(_Refused):
    """The same of a file or a directory that cannot be read."""

    what = "read"


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """In this context an error of the system is a `CannotWrite` of `path`.

    A write to a full disk, unlike an open of a missing file, raises an error without a path.
    """
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error) from error


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """In this context an error of the system is a `CannotRead` of `path`."""
    try:
        yield
    except OSError as error:
        raise CannotRead(path, error) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike, tell: Tell = lambda text: None) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` at the end of the context, unless that fails.

    Args:
        tell: called with a sentence if the file system cannot flush a directory.

    Raises:
        CannotWrite: the disk or the directory refuses; an older file at `path` is left as it was.
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
    """Give a file a second name, or copy it where files have one name only.

    Args:
        tell: called with a sentence if it is a copy, or if a directory cannot be flushed.

    Raises:
        CannotWrite: of `name`, as `replacing`.
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
                f"({error.strerror or error}): files of epochs are copies and take their space"
            )
            _copy(path, name, tell)
            return
        try:
            os.replace(temporary, name)
            _flush_directory(name.parent, tell)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Where to write what is to become `path`: a name that is new each time, and unforeseeable."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def remove_temporaries(directory: Path, names: str) -> None:
    """Remove what killed processes left of files whose names match a pattern.

    Only who alone writes to these files may call it: what another one is writing would go as well.

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
    """`torch.save` to an open file, with the system's error where the disk refuses."""
    output = _Output(file)
    try:
        torch.save(content, output)
    except RuntimeError:
        # torch finds that bytes are missing, and does not say why they are.
        if output.failure is None:
            raise
        raise output.failure from None


class _Output:
    """A file as `torch.save` needs it, that remembers why a write failed."""

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
            "a loss of power may take the newest file there, not older ones"
        )
