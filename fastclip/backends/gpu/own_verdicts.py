"""The user's file of verdicts on the GPU kernels of this machine.

`fastclip verify` writes the file, and so does the self-check of a first call with backend="auto". A
row is about kernels, dtype and D in one environment: the GPU, its driver, the versions, and a
digest of the kernels themselves. In any other environment the row is stale and ignored.

The file is JSON, `verdicts.json` in $XDG_CACHE_HOME/fastclip or ~/.cache/fastclip. It is complete
or missing, and processes that write at the same time wait for each other. Rows that another version
of fastclip wrote and this version cannot read are kept unchanged.
"""

import contextlib
import dataclasses
import json
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from fastclip.atomic_file import reading, replacing, writing
from fastclip.backends.gpu.environment import Environment as Environment
from fastclip.backends.gpu.environment import environment as environment
from fastclip.backends.gpu.own_verdict import PRIMITIVES as PRIMITIVES
from fastclip.backends.gpu.own_verdict import SOURCES as SOURCES
from fastclip.backends.gpu.own_verdict import OwnVerdict as OwnVerdict
from fastclip.backends.gpu.own_verdict import parsed
from fastclip.file_lock import locked

FILE_NAME = "verdicts.json"
LARGEST = 1 << 22  # most bytes of the file
MOST_ROWS = 4096  # older rows are dropped
SECONDS_FOR_ANOTHER = 120.0  # how long a process waits for another process's self-check

_writing = threading.RLock()


def path() -> Path:
    """Return the path of the file, which may not exist.

    Raises:
        OSError: this user has no home directory.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        directory = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"there is no place for {FILE_NAME}: {error}") from None
    return directory / "fastclip" / FILE_NAME


def read() -> tuple[OwnVerdict, ...]:
    """Return all rows, stale ones too; no rows if the file is missing.

    A file that cannot be read, or that `record` cannot have written, counts as empty, with a
    warning. Rows that cannot be read are left out, with a warning.
    """
    try:
        file = path()
        values = _content(file)["verdicts"]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError) as error:
        _warn_of_damage(file, error)
        return ()
    rows = tuple(filter(None, map(parsed, values)))
    if len(rows) < len(values):
        warnings.warn(
            f"{len(values) - len(rows)} of {len(values)} rows of {file} are not used: this version "
            "of fastclip cannot read them. They are kept for the version that wrote them; "
            "`fastclip verify --forget` removes all rows",
            stacklevel=2,
        )
    return rows


def is_current(row: OwnVerdict, device: torch.device) -> bool:
    """Return whether a row holds in this process on this device; otherwise the row is stale."""
    return row.environment == environment(row.backend, device)


def record(verdicts: Iterable[OwnVerdict]) -> None:
    """Add rows to the file; they replace older rows with the same key.

    Raises:
        OSError: the file cannot be written.
    """
    with _rows_to_change() as rows:
        for row in verdicts:
            rows.pop(row.key, None)  # the newest is the last
            rows[row.key] = row


def withdraw(row: OwnVerdict) -> None:
    """Remove a row from the file, unless another row has replaced it.

    Raises:
        OSError: the file cannot be written.
    """
    with _rows_to_change() as rows:
        if rows.get(row.key) == row:
            del rows[row.key]


def forget() -> int:
    """Remove the file, damaged or not, and return how many rows it contained.

    Raises:
        OSError: the file cannot be removed.
    """
    file = path()
    if not file.exists():
        return 0
    with _writing, _locked(file, ".lock"):
        try:
            number = len(_content(file)["verdicts"])
        except (OSError, ValueError):
            number = 0
        with writing(file):
            file.unlink(missing_ok=True)
    return number


@contextlib.contextmanager
def only_checker() -> Iterator[None]:
    """Allow only one process of this user at a time to make self-checks.

    The lock ends with the process that holds it. A process in the context that finds a row "begun"
    therefore knows that the process that wrote the row is dead.

    Raises:
        TimeoutError: another process has held the lock for SECONDS_FOR_ANOTHER.
        OSError: the lock cannot be made, for example because the folder is not writable.
    """
    with _locked(path(), ".check.lock", SECONDS_FOR_ANOTHER):
        yield


@contextlib.contextmanager
def _rows_to_change() -> Iterator[dict[tuple, Any]]:
    """Yield the file's rows by key, to be changed; unreadable rows have other keys and are kept.

    Raises:
        CannotRead: the file exists but cannot be read, so that writing would lose its rows.
        CannotWrite: the file cannot be written.
    """
    file = path()
    with _writing, _locked(file, ".lock"):
        try:
            with reading(file):
                content = _content(file)
        except ValueError as error:
            _warn_of_damage(file, error)
            content = {"verdicts": []}
        rows = {}
        for position, values in enumerate(content["verdicts"]):
            row = parsed(values)
            rows[(position,) if row is None else row.key] = values if row is None else row
        yield rows
        newest = [
            dataclasses.asdict(row) if isinstance(row, OwnVerdict) else row
            for row in list(rows.values())[-MOST_ROWS:]
        ]
        with replacing(file) as output:
            text = json.dumps(content | {"verdicts": newest}, indent=1)
            output.write(text.encode() + b"\n")


def _warn_of_damage(file: Path, error: Exception) -> None:
    warnings.warn(
        f"{file} is not used: {error}. `fastclip verify --forget` removes it, and "
        "`fastclip verify` writes a new one",
        stacklevel=3,
    )


def _locked(file: Path, ending: str, seconds: float = math.inf) -> AbstractContextManager[None]:
    """Let one process at a time be in the context; wait up to `seconds` for another process.

    The lock belongs to a process: the caller lets only one of its threads come here at a time.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        return locked(file.with_name(f".{file.name}{ending}"), seconds)


def _content(file: Path) -> dict[str, Any]:
    """Return the file's content, with its rows as "verdicts"; no rows if the file is missing.

    Raises:
        OSError: the file exists and cannot be read.
        ValueError: `record` cannot have written the content.
    """
    try:
        with open(file, "rb") as opened:
            content = opened.read(LARGEST + 1)
    except FileNotFoundError:
        return {"verdicts": []}
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(values, dict) or not isinstance(values.get("verdicts"), list):
        raise ValueError("it is not a table of verdicts")
    return values
