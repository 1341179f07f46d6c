"""Locks between processes: one process holds a file's lock until it closes the file or ends.

The locks are the system's locks that belong to a process. Worker processes, which may outlive their
parent by seconds, do not inherit them. Therefore two threads of one process do not exclude each
other, and closing any handle of the file releases the lock.
"""

import contextlib
import errno
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastclip.atomic_file import CannotWrite, writing

# Errors where there are no locks: some network file systems, and systems without `fcntl`.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
TAKEN = (errno.EACCES, errno.EAGAIN)  # errors for a lock that another process holds
SECONDS_BETWEEN_LOOKS = 0.02


def open_to_lock(path: Path) -> int:
    """Open a file to lock and return its descriptor; create it if it is missing.

    Symbolic links are not followed.

    Raises:
        CannotWrite: the file cannot be opened or created.
    """
    flags = os.O_RDWR | os.O_CREAT
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)  # not on every system
    with writing(path):
        return os.open(path, flags, 0o644)


def try_to_lock(file: int) -> bool:
    """Try to lock an open file; return False if another process holds the lock.

    Raises:
        OSError: the file cannot be locked: some network file systems have no locks.
    """
    try:
        import fcntl  # not on every system
    except ImportError as error:
        raise OSError(errno.ENOLCK, f"this system cannot lock files ({error})") from None
    try:
        # Not flock: a forked worker would inherit its lock.
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
    """Let only one process at a time be in the context of a lock file; the file is not removed.

    Args:
        seconds: how long to wait for another process.
        tell: called with the reason where files cannot be locked; the context is then entered
            without a lock. With None, this raises CannotWrite instead.

    Raises:
        TimeoutError: another process has held the lock for all of these seconds.
        CannotWrite: the file cannot be opened or locked.
    """
    file = open_to_lock(path)
    try:
        deadline = time.monotonic() + seconds
        while not _try_to_lock(file, path, tell):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held the lock {path} for {seconds:g} s")
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
