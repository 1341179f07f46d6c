"""Locks between processes: a file that one of them holds until it closes it or ends, however.

The lock is the system's, of the kind that belongs to a process: workers, which may live on for
seconds after it, do not inherit it. So two threads of a process do not keep each other out, and
closing any handle of the file gives the lock back.
"""

import contextlib
import errno
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from fastclip.atomic_file import writing

TAKEN = (errno.EACCES, errno.EAGAIN)  # what the system says of a lock that another process holds
SECONDS_BETWEEN_LOOKS = 0.02


def open_to_lock(path: Path) -> int:
    """A descriptor of the file, made if it is not there; links are not followed.

    Raises:
        CannotWrite: the file cannot be opened or made.
    """
    flags = os.O_RDWR | os.O_CREAT
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)  # not everywhere
    with writing(path):
        return os.open(path, flags, 0o644)


def try_to_lock(file: int) -> bool:
    """Whether this process has the lock of an open file now, instead of another one.

    Raises:
        OSError: the file cannot be locked: some networks' file systems have no locks.
    """
    try:
        import fcntl  # not everywhere
    except ImportError as error:
        raise OSError(errno.ENOLCK, f"this system cannot lock files ({error})") from None
    try:
        # Not flock, whose lock a worker inherits that was forked.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True


@contextlib.contextmanager
def locked(path: Path, seconds: float = math.inf) -> Iterator[None]:
    """Only one process is in the context of a file at a time; the file stays.

    Args:
        seconds: how long to wait for another process.

    Raises:
        TimeoutError: another process has been in there for so long.
        CannotWrite: there can be no such lock.
    """
    file = open_to_lock(path)
    try:
        deadline = time.monotonic() + seconds
        while not _try_to_lock(file, path):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held {path} for {seconds:g} s")
            time.sleep(SECONDS_BETWEEN_LOOKS)
        yield
    finally:
        os.close(file)


def _try_to_lock(file: int, path: Path) -> bool:
    with writing(path):
        return try_to_lock(file)
