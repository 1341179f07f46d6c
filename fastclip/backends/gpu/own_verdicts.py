"""What this user's own machine says of the GPU kernels: a file beside what fastclip fetched.

`fastclip verify` writes it, and the self-check of a first call with backend="auto". A row is about
kernels, dtype and D in one environment: the GPU, its driver, the versions, and a digest of the
kernels themselves. In any other environment it is stale, and counts for nothing.

The file is JSON, `verdicts.json` in $XDG_CACHE_HOME/fastclip or ~/.cache/fastclip. It is whole or
not there, and processes that write at the same time wait for each other.
"""

import contextlib
import dataclasses
import datetime
import json
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastclip.atomic_file import replacing, writing
from fastclip.backends.gpu.environment import Environment as Environment
from fastclip.backends.gpu.environment import environment as environment
from fastclip.backends.gpu.precision import default_planes
from fastclip.backends.gpu.verified import DIMS, DTYPES, KERNELS, require
from fastclip.file_lock import locked

FILE_NAME = "verdicts.json"
LARGEST = 1 << 22  # bytes of the file
MOST_ROWS = 4096  # the oldest are dropped
SOURCES = ("verify", "self-check", "begun")
PRIMITIVES = ("contrastive_lse", "siglip_sum", "siglip_total")
# What kernels are compared with: the backend that runs anywhere, and open_clip's formula.
RIVALS = (("chunked", ""), ("eager", ""))
SECONDS_FOR_ANOTHER = 120.0  # that a process waits for another's self-check

_writing = threading.RLock()


@dataclass(frozen=True)
class OwnVerdict:
    """One row of the file. Raises ValueError if it cannot be one.

    Args:
        environment: where it holds.
        backend, variant: the kernels (`verified.KERNELS`), or what they are compared with (RIVALS).
        dtype: of the features, "bfloat16" for example.
        D: the class, one of `verified.DIMS`.
        passed: whether the results were right.
        reason: in words, what was wrong; empty if it passed.
        source: who says so: "verify" or "self-check"; "begun" is a self-check that has not ended.
        date: ISO, of the day.
        N: the number of pairs that was timed, or None.
        forward_ms, step_ms: medians at N pairs of the forward, and of forward and backward.
        primitive: of PRIMITIVES, which one was checked; empty is all of them.
        planes: `precision.planes_for` the dtype at the matmul precision that was checked.
    """

    environment: Environment
    backend: str
    variant: str
    dtype: str
    D: int
    passed: bool
    reason: str
    source: str
    date: str
    N: int | None = None
    forward_ms: float | None = None
    step_ms: float | None = None
    primitive: str = ""
    planes: int = 1

    def __post_init__(self) -> None:
        times = self.N, self.forward_ms, self.step_ms
        require(self, (
            (isinstance(self.environment, Environment), "environment"),
            ((self.backend, self.variant) in KERNELS + RIVALS, "backend"),
            (self.dtype in DTYPES, "dtype"),
            (type(self.D) is int and self.D in DIMS, "D"),
            (type(self.passed) is bool, "passed"),
            (isinstance(self.reason, str) and self.passed == (self.reason == ""), "reason"),
            (self.source in SOURCES and not (self.passed and self.source == "begun"), "source"),
            (isinstance(self.date, str) and datetime.date.fromisoformat(self.date), "date"),
            (self.passed or times == (None, None, None), "N"),
            (times == (None, None, None) or _are_times(*times), "forward_ms"),
            (self.primitive == "" or self.primitive in PRIMITIVES, "primitive"),
            (type(self.planes) is int and 1 <= self.planes <= default_planes(self.dtype), "planes"),
        ))  # fmt: skip

    @property
    def kernels(self) -> tuple[str, str]:
        return self.backend, self.variant

    @property
    def key(self) -> tuple:
        """What there is one row of."""
        return self.environment, *self.kernels, self.dtype, self.D, self.primitive, self.planes


def path() -> Path:
    """Where the file is, or would be.

    Raises:
        OSError: this user has no home.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        directory = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"there is no place for {FILE_NAME}: {error}") from None
    return directory / "fastclip" / FILE_NAME


def read(file: Path | None = None) -> tuple[OwnVerdict, ...]:
    """All rows, stale ones too; none of a file that is not there.

    A file that cannot be read, or is not what `record` writes, counts as empty: a warning names it.
    """
    try:
        file = path() if file is None else file
        with open(file, "rb") as opened:
            content = opened.read(LARGEST + 1)
        return _parse(content)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        warnings.warn(
            f"{file} is not used: {error}. `fastclip verify --forget` removes it, and "
            "`fastclip verify` writes it anew",
            stacklevel=2,
        )
        return ()


def is_current(row: OwnVerdict, device: torch.device) -> bool:
    """Whether a row holds in this process on this device; it is stale otherwise."""
    return row.environment == environment(row.backend, device)


def record(verdicts: Iterable[OwnVerdict]) -> None:
    """Add rows to the file, in the place of older ones about the same.

    Raises:
        OSError: the file cannot be written.
    """
    with _rows_to_change() as rows:
        for row in verdicts:
            rows.pop(row.key, None)  # the newest is the last
            rows[row.key] = row


def withdraw(row: OwnVerdict) -> None:
    """Take a row out of the file, unless another one has taken its place.

    Raises:
        OSError: the file cannot be written.
    """
    with _rows_to_change() as rows:
        if rows.get(row.key) == row:
            del rows[row.key]


def forget() -> int:
    """Remove the file, damaged or not, and return how many rows it had.

    Raises:
        OSError: the file cannot be removed.
    """
    file = path()
    if not file.exists():
        return 0
    with _writing, _locked(file, ".lock"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged one
            number = len(read(file))
        with writing(file):
            file.unlink(missing_ok=True)
    return number


@contextlib.contextmanager
def only_checker() -> Iterator[None]:
    """In the context no other process of this user makes a self-check.

    The lock ends with the process that holds it. Whoever is in the context and finds a row "begun"
    knows that the process that began it is dead.

    Raises:
        TimeoutError: another process has been in there for SECONDS_FOR_ANOTHER.
        OSError: there can be no lock: of a folder that cannot be written, for example.
    """
    with _locked(path(), ".check.lock", SECONDS_FOR_ANOTHER):
        yield


@contextlib.contextmanager
def _rows_to_change() -> Iterator[dict[tuple, OwnVerdict]]:
    file = path()
    with _writing, _locked(file, ".lock"):
        rows = {row.key: row for row in read(file)}
        yield rows
        newest = list(map(dataclasses.asdict, rows.values()))[-MOST_ROWS:]
        with replacing(file) as output:
            output.write(json.dumps({"verdicts": newest}, indent=1).encode() + b"\n")


def _locked(file: Path, ending: str, seconds: float = math.inf) -> AbstractContextManager[None]:
    """Only one process is in the context at a time; wait so long for the other.

    The lock belongs to a process: of its threads, only one may come here at a time.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        return locked(file.with_name(f".{file.name}{ending}"), seconds)


def _parse(content: bytes) -> tuple[OwnVerdict, ...]:
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    try:
        values = json.loads(content)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(values, dict) or not isinstance(values.get("verdicts"), list):
        raise ValueError("it is no table of verdicts")
    return tuple(map(_parse_row, values["verdicts"]))


def _parse_row(values: Any) -> OwnVerdict:
    return OwnVerdict(**values | {"environment": Environment(**values["environment"])})


def _are_times(N: Any, forward_ms: Any, step_ms: Any) -> bool:
    are_numbers = type(N) is int and all(isinstance(x, float) for x in (forward_ms, step_ms))
    return are_numbers and N > 0 and 0.0 < forward_ms < step_ms < math.inf
