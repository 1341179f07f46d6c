"""A file of results: a line of JSON per result, appended whole or not at all.

A process that appends holds a lock, reads the file, and replaces it by a longer one. No reader sees
half a line, even if the process is killed, and two processes do not lose each other's lines. If the
file system has no locks, a warning says that two processes must not append at the same time.
"""

import errno
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fastclip.atomic_file import CannotWrite, replacing, writing
from fastclip.data.quoting import first_line
from fastclip.data.regular_file import open_regular
from fastclip.file_lock import locked

SECONDS = 60.0  # how long to wait for another process that holds the lock


def read_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines of a file of results.

    Raises:
        OSError: there is no such file, or it is not a regular file.
        ValueError: a line is not a JSON object with metrics, or has a number that strict JSON does
            not allow, such as NaN; the message has the number of the line.
    """
    with open_regular(path) as file:
        content = file.read()
    return _parsed(path, content)


class ResultsFile:
    """A file to which results are appended.

    The constructor checks the file, so that errors come before anything is computed.

    Args:
        path: the file, which need not exist.
        tell: called once with a warning if the file cannot be locked.

    Raises:
        OSError: the path is not a regular file, or its folder does not exist or is not writable.
        ValueError: the file has lines that are not results.
    """

    def __init__(
        self, path: str | os.PathLike, tell: Callable[[str], None] = warnings.warn
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self._tell: Callable[[str], None] | None = tell
        if self.path.exists():
            read_results(self.path)
        if not os.access(self.path.parent, os.W_OK):
            reason = errno.EACCES if self.path.parent.is_dir() else errno.ENOENT
            raise CannotWrite(path, OSError(reason, os.strerror(reason)))

    def lines_like(self, line: Mapping[str, Any]) -> int:
        """Count the lines with the same data, model and task as `line`."""
        names = [n for n in ("key", "dataset", "model", "pretrained", "task") if n in line]
        if not self.path.exists():
            return 0
        return sum(
            all(found.get(name) == line[name] for name in names)
            for found in read_results(self.path)
        )

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append all of the lines, or none.

        Raises:
            CannotWrite: the file cannot be written, or another process does not release its lock.
            ValueError: the file is no longer a file of results, or a number is nan.
        """
        added = b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in lines)
        # The lock is a file next to the results, because the results file itself is replaced.
        lock = self.path.with_name(f".{self.path.name}.lock")
        with writing(self.path), locked(lock, SECONDS, self._say_unlocked):
            content = b""
            if self.path.exists():
                with open_regular(self.path) as file:
                    content = file.read()
                _parsed(self.path, content)
                if content and not content.endswith(b"\n"):
                    content += b"\n"  # after a complete line that an editor left without one
            with replacing(self.path) as file:
                file.write(content + added)

    def _say_unlocked(self, reason: str) -> None:
        if self._tell is not None:
            self._tell(
                f"{self.path} cannot be locked ({reason}); do not append to it from two "
                "evaluations at the same time, or one may lose its line"
            )
        self._tell = None


def _parsed(path: str | os.PathLike, content: bytes) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            values = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{os.fspath(path)} is not a file of results: line {number} is not JSON: "
                f"{first_line(error)}"
            ) from None
        if not isinstance(values, dict) or "metrics" not in values:
            raise ValueError(
                f"{os.fspath(path)} is not a file of results: line {number} has no metrics"
            )
        found.append(values)
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"strict JSON does not allow the number {constant}")
