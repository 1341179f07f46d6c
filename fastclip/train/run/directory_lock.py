"""One run per directory: a lock that ends with the process that holds it, however that ends.

The lock is the system's (`fastclip/file_lock.py`), on a file of the directory that says who holds
it.

Some networks' file systems have no locks. There the process that the file names is looked for: a
run on the same machine is found, and a warning says that one on another machine would not be.
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
    """Held from when it is made until `close`, or until the process ends.

    Args:
        directory: of a run; it must be there.

    Attributes:
        caution: why the lock does not hold off every other run, or None if it does.

    Raises:
        ValueError: another process holds it; the message has its number, its host and its start.
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
        """Give the directory back; the file stays, as another process may have it open."""
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
            f"{self.path.parent} has a run that is going on, by {who}: wait for it, stop it or "
            "choose another --name"
        )
        if objection is None:
            raise ValueError(refusal)
        if holder is not None and holder.is_alive_here():
            raise ValueError(f"{refusal}; if that process is no run, remove {self.path}")
        last = "" if holder is None else f"; the last one here was by {who}"
        self.caution = (
            f"{self.path} cannot be locked ({objection}): a second run in this directory, "
            f"started on another machine, would not be noticed and would damage both{last}"
        )

    def _write(self, content: bytes) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)


class _Holder(NamedTuple):
    """The process that a lock's file names."""

    pid: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)}, started {printable(self.started)}"

    def is_alive_here(self) -> bool:
        """Is it another process of this machine that runs? Of other machines nothing is known."""
        if self.host != socket.gethostname() or self.pid == os.getpid():
            return False
        try:
            os.kill(self.pid, 0)
        except PermissionError:  # it is another user's
            return True
        except (ProcessLookupError, OverflowError):
            return False
        return True


def _holder(content: bytes) -> _Holder | None:
    """Whom the file names; None if nobody, as between the lock and its first line."""
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
