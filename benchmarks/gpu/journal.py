"""Write results by section to disk at once, so that a stopped run loses none."""

import datetime
import json
from pathlib import Path
from typing import Any


class Journal:
    """`content` says what was run, when and where, and has a list of rows per section."""

    def __init__(
        self, path: Path, command: str, host: dict[str, Any], sections: tuple[str, ...]
    ) -> None:
        self.path = path
        self.content: dict[str, Any] = {
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": command,
            "host": host,
            **{section: [] for section in sections},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def add(self, section: str, row: dict[str, Any]) -> None:
        self.content[section].append(row)
        self._write()

    def _write(self) -> None:
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.content, indent=1) + "\n")
        unfinished.replace(self.path)
