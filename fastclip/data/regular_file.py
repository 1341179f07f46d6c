"""Files of data are regular files: what only looks like one is refused before it is read.

A pipe that nobody writes to, a socket or a device such as /dev/zero would be waited for, or read,
without an end.
"""

import os
import stat
from typing import BinaryIO

NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # the opening of a pipe would wait for a writer


def open_regular(path: str | os.PathLike, buffering: int = -1) -> BinaryIO:
    """Open a file for reading bytes.

    Raises:
        OSError: it cannot be opened, or is no regular file (nor a link to one).
    """
    return open(path, "rb", buffering, opener=_open)


def read_regular(path: str | os.PathLike, most: int) -> bytes:
    """Return what is in a file.

    Raises:
        OSError: as `open_regular`.
        ValueError: it has more than `most` bytes.
    """
    with open_regular(path) as file:
        contents = file.read(most + 1)
    if len(contents) > most:
        raise ValueError(f"{os.fspath(path)!r} has more than {most:,} bytes")
    return contents


def _open(path: str, flags: int) -> int:
    # Looked at first: opening some devices does something.
    _require_regular(os.stat(path), path)
    descriptor = os.open(path, flags | NO_WAITING)
    try:
        _require_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(status: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path!r} is a folder, and no file")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path!r} is no regular file, but a pipe, a socket or a device")
