"""A lock that lets one process at a time write to a folder; it ends with the process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastclip.atomic_file import writing
from fastclip.file_lock import open_to_lock, try_to_lock

LOCK = "embeddings.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder in this context; make it if missing.

    Raises:
        ValueError: another process is writing to it.
        CannotWrite: the folder cannot be made or written to, or its file system has no locks.
    """
    path = folder / LOCK
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    file = open_to_lock(path)
    try:
        with writing(path):
            is_ours = try_to_lock(file)
        if not is_ours:
            raise ValueError(f"another process is writing to {folder}: wait until it has finished")
        yield
    finally:
        os.close(file)
