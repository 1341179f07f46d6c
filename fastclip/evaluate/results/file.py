"""A file of results: a line of JSON for each, which is appended whole or not at all.

Who appends holds a lock, takes what is there, and replaces the file by one that is longer: no
reader sees half a line, whatever ends the process, and of two processes none loses the other's
line. Where the file system has no locks, it is said that two must not append at once.
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

SECONDS = 60.0  # that another process may hold the lock, for one line


def read_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines of a file of results.

    Raises:
        OSError: there is no such file, or it is no regular one.
        ValueError: a line is no JSON object, or has a number that strict JSON has not, as NaN; the
            message has the number of the line.
    """
    with open_regular(path) as file:
        content = file.read()
    return _parsed(path, content)


class ResultsFile:
    """A file to append to; it is looked at here, before anything is computed for it.

    Args:
        path: where it is, or will be.
        tell: called with a sentence, once, if the file cannot be kept for one process at a time.

    Raises:
        OSError: it is no regular file, or there is no such folder, or it cannot be written to.
        ValueError: it holds something else than results.
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
        # The file itself is replaced: the lock is on one beside it.
        lock = self.path.with_name(f".{self.path.name}.lock")
        with writing(self.path), locked(lock, SECONDS, self._say_unlocked):
            content = b""
            if self.path.exists():
                with open_regular(self.path) as file:
                    content = file.read()
                _parsed(self.path, content)
                if content and not content.endswith(b"\n"):
                    content += b"\n"  # behind a whole line that an editor wrote
            with replacing(self.path) as file:
                file.write(content + added)

    def _say_unlocked(self, reason: str) -> None:
        if self._tell is not None:
            self._tell(
                f"{self.path} cannot be locked ({reason}): of two evaluations that append to it at "
                "the same time, one may lose its line"
            )
        self._tell = None


def _parsed(path: str | os.PathLike, content: bytes) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            values = json.loads(line, parse_constant=_refuse)
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


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has the number {constant}")
