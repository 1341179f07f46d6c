"""One process at a time writes to a folder of embeddings: the system's lock, which ends with it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastclip.atomic_file import writing

LOCK = "embeddings.lock"
TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """In this context no other process writes to the folder, which is made if there is none.

    Raises:
        ValueError: another process is writing to it.
        CannotWrite: the folder cannot be made or written to, or its file system has no locks.
    """
    path = folder / LOCK
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                raise ValueError(f"another process is writing to {folder}: wait for it") from None
            with writing(path):
                raise
        yield
    finally:
        os.close(file)
