"""One run per directory: a lock that ends with the process that holds it, however it ends.

The lock is a lock of the operating system (`fastclip/file_lock.py`) on a file in the directory,
which names the process that holds it.

Some network file systems have no locks. There the run looks for the process that the file names:
it finds a process on the same machine, and warns that it cannot find one on another machine.
"""

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from fastclip.atomic_file import writing
from fastclip.file_lock import open_to_lock, try_to_lock
from fastclip.printable import printable

FILE_NAME = "run.lock"
LONGEST = 4096  # bytes of the file that are read


class DirectoryLock:
    """A lock that this process holds from its creation until `close`, or until the process ends.

    Args:
        directory: of a run; it must exist.

    Attributes:
        caution: why the lock does not keep off every other run, or None if it does.

    Raises:
        ValueError: another process holds the lock; the message has its id, its host and its start.
        CannotWrite: the file cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self.caution: str | None = None
        self._file = open_to_lock(self.path)
        try:
            self._take()
            with writing(self.path):
                self._write(_this_process())
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Release the lock; the file stays, because another process may have it open."""
        with contextlib.suppress(OSError):
            self._write(b"")
        os.close(self._file)

    def _take(self) -> None:
        objection = None
        try:
            if try_to_lock(self._file):
                return
        except OSError as error:
            objection = error.strerror
        holder = _holder(os.pread(self._file, LONGEST, 0))
        who = "another process" if holder is None else str(holder)
        refusal = (
            f"another run is using {self.path.parent} ({who}): wait for its end, stop it or "
            "choose another --name"
        )
        if objection is None:
            raise ValueError(refusal)
        if holder is not None and holder.is_alive_here():
            raise ValueError(f"{refusal}; if that process is not a run, remove {self.path}")
        last = "" if holder is None else f"; the last run in it was {who}"
        self.caution = (
            f"{self.path} cannot be locked ({objection}): make sure that no other machine starts a "
            "run in this directory, because it would go unnoticed and would damage both "
            f"runs{last}"
        )

    def _write(self, content: bytes) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)


class _Holder(NamedTuple):
    """The process that the file of a lock names."""

    pid: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)}, started {printable(self.started)}"

    def is_alive_here(self) -> bool:
        """Return whether it is another living process of this machine; False on other machines."""
        if self.host != socket.gethostname() or self.pid == os.getpid():
            return False
        try:
            os.kill(self.pid, 0)
        except PermissionError:  # the process belongs to another user
            return True
        except (ProcessLookupError, OverflowError):
            return False
        return True


def _holder(content: bytes) -> _Holder | None:
    """Return the process that the file names, or None while the file has no line yet."""
    try:
        values = json.loads(content)
        holder = _Holder(values["pid"], values["host"], values["started"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_process = type(holder.pid) is int and holder.pid > 0
    is_told = isinstance(holder.host, str) and isinstance(holder.started, str)
    return holder if is_process and is_told else None


def _this_process() -> bytes:
    holder = _Holder(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))
    return json.dumps(holder._asdict()).encode() + b"\n"
