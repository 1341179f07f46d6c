"""A file of results: a line of JSON for each, which is appended whole or not at all.

Who appends holds a lock, takes what is there, and replaces the file by one that is longer: no
reader sees half a line, whatever ends the process, and of two processes none loses the other's
line.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastclip.atomic_file import CannotWrite, replacing, writing
from fastclip.data.quoting import first_line
from fastclip.data.regular_file import open_regular

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
SECONDS = 60.0  # that another process may hold the lock, for one line
PAUSE = 0.05


def read_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines of a file of results.

    Raises:
        OSError: there is no such file, or it is no regular one.
        ValueError: a line is no JSON object; the message has its number.
    """
    with open_regular(path) as file:
        content = file.read()
    return _parsed(path, content)


class ResultsFile:
    """A file to append to; it is looked at here, before anything is computed for it.

    Args:
        path: where it is, or will be.

    Raises:
        OSError: it is no regular file, or there is no such folder, or it cannot be written to.
        ValueError: it holds something else than results.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(os.path.realpath(path))
        if self.path.exists():
            read_results(self.path)
        if not os.access(self.path.parent, os.W_OK):
            reason = errno.EACCES if self.path.parent.is_dir() else errno.ENOENT
            raise CannotWrite(path, OSError(reason, os.strerror(reason)))

    def lines_like(self, line: Mapping[str, Any]) -> int:
        """Count the lines of the same data, model and task as a line."""
        names = [n for n in ("key", "dataset", "model", "pretrained", "task") if n in line]
        if not self.path.exists():
            return 0
        return sum(
            all(found.get(name) == line[name] for name in names)
            for found in read_results(self.path)
        )

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append lines, all or none.

        Raises:
            CannotWrite: the disk refuses, or another process does not let go of the file.
            ValueError: what is there is no file of results any more, or a number is nan.
        """
        added = b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in lines)
        with writing(self.path), _locked(self.path):
            content = b""
            if self.path.exists():
                with open_regular(self.path) as file:
                    content = file.read()
                _parsed(self.path, content)
                if content and not content.endswith(b"\n"):
                    content += b"\n"  # behind a whole line that an editor wrote
            with replacing(self.path) as file:
                file.write(content + added)


def _parsed(path: str | os.PathLike, content: bytes) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{os.fspath(path)} is no file of results: line {number} is not JSON: "
                f"{first_line(error)}"
            ) from None
        if not isinstance(values, dict) or "metrics" not in values:
            raise ValueError(
                f"{os.fspath(path)} is no file of results: line {number} has no metrics"
            )
        found.append(values)
    return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is one of its own: the file itself is replaced."""
    lock = os.open(
        path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666
    )
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in NO_LOCKS:  # alone on such a file system, as far as is known
                    break
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)
        yield
    finally:
        os.close(lock)
