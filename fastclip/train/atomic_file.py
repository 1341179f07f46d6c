"""Files that are whole or not there, and that tell when they are damaged.

A file is written beside its place, flushed to the disk, then renamed onto it, and the rename is
flushed too: at every moment the old content or the new one is there. `torch.load` does not notice a
changed byte; the checksums that every zip has do.
"""

import os
import zipfile
from pathlib import Path

import torch


def write_atomically(path: str | os.PathLike, content: dict) -> None:
    """`torch.save` to a temporary file in the same directory, fsync, rename onto `path`.

    Raises:
        OSError: the disk or the directory refuses; an older file at `path` is left as it was.
    """
    path = Path(path)
    temporary = temporary_of(path)
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
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


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
