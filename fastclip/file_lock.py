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
from collections.abc import Callable, Iterator
from pathlib import Path

from fastclip.atomic_file import CannotWrite, writing

# What it says where there are no locks: some networks' file systems, and systems without `fcntl`.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
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
def locked(
    path: Path, seconds: float = math.inf, tell: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Only one process is in the context of a file at a time; the file stays.

    Args:
        seconds: how long to wait for another process.
        tell: called with the reason where there are no locks, and the context is then entered
            without one; None refuses that.

    Raises:
        TimeoutError: another process has been in there for so long.
        CannotWrite: there can be no such lock.
    """
    file = open_to_lock(path)
    try:
        deadline = time.monotonic() + seconds
        while not _try_to_lock(file, path, tell):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held {path} for {seconds:g} s")
            time.sleep(SECONDS_BETWEEN_LOOKS)
        yield
    finally:
        os.close(file)


def _try_to_lock(file: int, path: Path, tell: Callable[[str], None] | None) -> bool:
    try:
        return try_to_lock(file)
    except OSError as error:
        if tell is None or error.errno not in NO_LOCKS:
            raise CannotWrite(path, error) from error
        tell(str(error.strerror or error))
        return True
