"""Reads and writes results.jsonl, which has one line of JSON for every epoch of a run.

A run that ends in the middle of a write, a disk that loses power or an editor can leave other
lines. They must not keep a run from going on: they are moved to `results_set_aside.jsonl`, byte by
byte, and so are lines of epochs that are trained again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastclip.atomic_file import Tell, reading, remove_temporaries, replacing, writing

FILE_NAME = "results.jsonl"  # in the directory of a run
SHOWN = 5  # line numbers that a message lists


class ResultsFile:
    """Args:
        path: of the file, which need not exist.
        tell: called with a sentence about lines that are set aside.

    Attributes:
        epochs: the epochs that have a line.

    Raises:
        CannotRead, CannotWrite: the file cannot be read or written.
    """

    def __init__(self, path: Path, tell: Tell = lambda text: None) -> None:
        self.path = path
        self.aside = path.with_name(f"{path.stem}_set_aside{path.suffix}")
        self._tell = tell
        remove_temporaries(path.parent, path.name.replace(".", r"\."))
        lines = self._lines()
        numbers = [n for n, line in enumerate(lines, 1) if _epoch_of(line) is None]
        self._set_aside(lines, numbers, "no results of an epoch")
        self.epochs = {_epoch_of(line) for line in lines} - {None}

    def append(self, values: Mapping[str, object]) -> None:
        """Append a line.

        Args:
            values: with "epoch" among them.

        Raises:
            CannotWrite: the line cannot be written.
        """
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(values)) + "\n")
        self.epochs.add(values["epoch"])

    def rows(self) -> list[dict[str, Any]]:
        """Return the lines of epochs in their order, and skip all other lines.

        Raises:
            CannotRead: the file cannot be read.
        """
        return read_rows(self.path)

    def has_epoch(self, epoch: int) -> bool:
        """Return whether there is a line with this "epoch"."""
        return epoch in self.epochs

    def keep_until(self, last: int) -> None:
        """Set aside the lines of epochs after epoch `last`."""
        if all(epoch <= last for epoch in self.epochs):
            return
        lines = self._lines()
        numbers = [n for n, line in enumerate(lines, 1) if (_epoch_of(line) or 0) > last]
        self._set_aside(lines, numbers, f"of epochs after {last}")
        self.epochs = {epoch for epoch in self.epochs if epoch <= last}

    def _lines(self) -> list[bytes]:
        return _lines_of(self.path)

    def _set_aside(self, lines: list[bytes], numbers: list[int], what: str) -> None:
        """Move lines to the other file, writing that one first, so that no line can be lost."""
        if not numbers:
            return
        moved = set(numbers)
        with writing(self.aside), open(self.aside, "ab") as file:
            file.writelines(_ended(lines[number - 1]) for number in numbers)
            file.flush()
            os.fsync(file.fileno())
        with replacing(self.path) as file:
            file.writelines(line for n, line in enumerate(lines, 1) if n not in moved)
        which, verb = _listed(numbers), "is" if len(numbers) == 1 else "are"
        self._tell(f"{which} of {self.path} ({what}) {verb} set aside in {self.aside}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the lines of epochs in a results file, in their order, and change nothing.

    Other lines, such as one that is still being written, are skipped.

    Raises:
        CannotRead: the file cannot be read.
    """
    return [json.loads(line) for line in _lines_of(path) if _epoch_of(line) is not None]


def _lines_of(path: Path) -> list[bytes]:
    with reading(path):
        if not path.is_file():
            return []
        with open(path, "rb") as file:
            return file.readlines()


def _epoch_of(line: bytes) -> int | None:
    """Return the epoch of a line that was written completely, or None."""
    try:
        values = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    epoch = values.get("epoch") if isinstance(values, dict) else None
    return epoch if type(epoch) is int else None


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n"


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN]))
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
