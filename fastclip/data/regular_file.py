"""Opens files of data, which must be regular files; anything else is refused before it is read.

Reading a pipe that nobody writes to, a socket or a device such as /dev/zero would never end.
"""

import os
import stat
from typing import BinaryIO

NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for a writer


def open_regular(path: str | os.PathLike, buffering: int = -1) -> BinaryIO:
    """Open a file for reading bytes.

    Raises:
        OSError: the file cannot be opened, or is not a regular file (or a link to one).
    """
    return open(path, "rb", buffering, opener=_open)


def read_regular(path: str | os.PathLike, most: int) -> bytes:
    """Return the contents of a file.

    Raises:
        OSError: as `open_regular`.
        ValueError: the file has more than `most` bytes.
    """
    with open_regular(path) as file:
        contents = file.read(most + 1)
    if len(contents) > most:
        raise ValueError(f"{os.fspath(path)!r} has more than {most:,} bytes")
    return contents


def _open(path: str, flags: int) -> int:
    # Checked before opening, because opening some devices has effects.
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
        raise IsADirectoryError(f"{path!r} is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path!r} is not a regular file, but a pipe, a socket or a device")
