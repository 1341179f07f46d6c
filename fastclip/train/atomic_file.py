"""Files that are whole or not there, and that tell when they are damaged.

A file is written beside its place, flushed to the disk, then renamed onto it, and the rename is
flushed too: at every moment the old content or the new one is there. `torch.load` does not notice a
changed byte; the checksums that every zip has do.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch


class CannotWrite(OSError):
    """A file cannot be written; the message has its path and the reason that the system gives.

    Attributes:
        errno: the system's number of the reason, if there is one.
    """

    def __init__(self, path: str | os.PathLike, error: OSError) -> None:
        super().__init__(f"{os.fspath(path)} cannot be written: {error.strerror or error}")
        self.errno = error.errno


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


def write_atomically(path: str | os.PathLike, content: dict) -> None:
    """`torch.save` to a temporary file in the same directory, fsync, rename onto `path`.

    Raises:
        CannotWrite: the disk or the directory refuses; an older file at `path` is left as it was.
    """
    path = Path(path)
    temporary = temporary_of(path)
    try:
        with writing(path):
            _write(temporary, content)
            os.replace(temporary, path)
            _flush_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """Where this process writes what is to become `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def objection_to(path: str | os.PathLike) -> str | None:
    """Why a file of `write_atomically` cannot be trusted, or None if all its checksums hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        return f"not a whole file ({error})"
    return None if damaged is None else f"its part {damaged} is damaged"


def _write(path: Path, content: dict) -> None:
    with open(path, "wb") as file:
        output = _Output(file)
        try:
            torch.save(content, output)
        except RuntimeError:
            # torch finds that bytes are missing, and does not say why they are.
            if output.failure is None:
                raise
            raise output.failure from None
        file.flush()
        os.fsync(file.fileno())


class _Output:
    """A file as `torch.save` needs it, that remembers why a write failed."""

    def __init__(self, file) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
