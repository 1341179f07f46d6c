"""results.jsonl: a line of JSON for every epoch of a run, and no other lines.

A run that ends in the middle of a write, a disk that loses power or an editor can leave other
lines. They say nothing of an epoch, and must not keep a run from going on: they are moved to
`results_set_aside.jsonl`, byte by byte, and so are epochs that are trained anew.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastclip.atomic_file import Tell, reading, remove_temporaries, replacing, writing

FILE_NAME = "results.jsonl"  # in the directory of a run
SHOWN = 5  # numbers of lines in a sentence


class ResultsFile:
    """Args:
        path: of the file, which need not be there.
        tell: called with a sentence about lines that are set aside.

    Attributes:
        epochs: of which there is a line.

    Raises:
        CannotRead, CannotWrite: the disk refuses.
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
        """Write a line.

        Args:
            values: "epoch" among them.

        Raises:
            CannotWrite: the disk refuses.
        """
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(values)) + "\n")
        self.epochs.add(values["epoch"])

    def rows(self) -> list[dict[str, Any]]:
        """What the lines say, in their order; those that say nothing of an epoch are passed over.

        Raises:
            CannotRead: the disk refuses.
        """
        return read_rows(self.path)

    def has_epoch(self, epoch: int) -> bool:
        """Is there a line whose "epoch" is that?"""
        return epoch in self.epochs

    def keep_until(self, last: int) -> None:
        """Set aside the lines of epochs after a number."""
        if all(epoch <= last for epoch in self.epochs):
            return
        lines = self._lines()
        numbers = [n for n, line in enumerate(lines, 1) if (_epoch_of(line) or 0) > last]
        self._set_aside(lines, numbers, f"of epochs after {last}")
        self.epochs = {epoch for epoch in self.epochs if epoch <= last}

    def _lines(self) -> list[bytes]:
        return _lines_of(self.path)

    def _set_aside(self, lines: list[bytes], numbers: list[int], what: str) -> None:
        """Move lines to the other file, first there, so that they are never in neither."""
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
        self._tell(f"{which} of {self.path} {verb} {what}, and set aside in {self.aside}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What the lines of a file say of epochs, in their order; nothing is changed.

    Lines that say nothing of an epoch, such as one that is being written, are passed over.

    Raises:
        CannotRead: the disk refuses.
    """
    return [json.loads(line) for line in _lines_of(path) if _epoch_of(line) is not None]


def _lines_of(path: Path) -> list[bytes]:
    with reading(path):
        if not path.is_file():
            return []
        with open(path, "rb") as file:
            return file.readlines()


def _epoch_of(line: bytes) -> int | None:
    """Of a line that was written whole, or None."""
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
