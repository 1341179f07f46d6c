"""results.jsonl: a line of JSON for every epoch of a run."""

import json
from collections.abc import Mapping
from pathlib import Path

from fastclip.train.atomic_file import writing


class ResultsFile:
    """Args:
    path: of the file, which need not be there. Half a line at its end, which a process left that
        was killed as it wrote, is removed: the run owes that line still.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_bytes() if path.is_file() else b""
        if text and not text.endswith(b"\n"):
            path.write_bytes(text[: text.rfind(b"\n") + 1])

    def append(self, values: Mapping[str, object]) -> None:
        """Write a line.

        Raises:
            CannotWrite: the disk refuses.
        """
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(values)) + "\n")

    def has_epoch(self, epoch: int) -> bool:
        """Is there a line whose "epoch" is that?"""
        if not self.path.is_file():
            return False
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return any(json.loads(line)["epoch"] == epoch for line in lines)
