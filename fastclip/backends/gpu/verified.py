"""The table that fastclip ships: which kernels ran correctly on which GPU, and how fast.

The table is `verified.csv`, with a row for each set of kernels, architecture, dtype and D. `make
gpu-check` rewrites it with rows for the kernels that passed every check in the same run. Each
architecture is measured at DIMS; features of another D use the next larger one, or the largest.
`own_verdicts.py` has the verdicts of a user's own GPU, and `known.py` what follows from both.
"""

import csv
import dataclasses
import datetime
import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("verified.csv")
DIMS = (512, 768, 1024)
DTYPES = ("bfloat16", "float16", "float32")
KERNELS = (("triton", ""), ("cuda", "portable"), ("cuda", "hopper"))  # backend, variant


def require(row: Any, conditions: Iterable[tuple[Any, str]]) -> None:
    """Raise ValueError with the field of the first condition that does not hold."""
    for holds, what in conditions:
        if not holds:
            raise ValueError(f"{what} cannot be {getattr(row, what)!r}")


@dataclass(frozen=True)
class Verdict:
    """One row: medians of an interleaved run. Raises ValueError if a value is invalid."""

    architecture: str  # as `device.architecture` names it
    dtype: str
    D: int
    backend: str
    variant: str  # the variant of the backend's kernels; "" if there is only one
    N: int  # pairs that were measured
    forward_ms: float
    step_ms: float  # forward and backward
    device: str
    date: str
    command: str

    def __post_init__(self) -> None:
        require(self, (
            (re.fullmatch(r"sm_\d+|gfx\w+", self.architecture), "architecture"),
            (self.dtype in DTYPES, "dtype"),
            (self.D in DIMS, "D"),
            ((self.backend, self.variant) in KERNELS, "backend"),
            (self.N > 0, "N"),
            (0.0 < self.forward_ms < self.step_ms < math.inf, "forward_ms"),
            (self.device, "device"),
            (datetime.date.fromisoformat(self.date), "date"),
            (self.command, "command"),
        ))  # fmt: skip

    @property
    def kernels(self) -> tuple[str, str]:
        return self.backend, self.variant

    @property
    def key(self) -> tuple:
        """The values that identify a row: the table has one row for each key."""
        return self.architecture, self.dtype, self.D, *self.kernels


FIELDS = {field.name: field.type for field in dataclasses.fields(Verdict)}


def read(path: Path) -> tuple[Verdict, ...]:
    """Read a table; raise ValueError, with the line's number, if it is malformed."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if lines[:1] != [list(FIELDS)]:
        raise ValueError(f"{path.name}: the first line must be {','.join(FIELDS)}")
    rows = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            row = _parse(line)
            if row.key in rows:
                raise ValueError("it has the kernels, dtype and D of an earlier line")
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from error
        rows[row.key] = row
    return tuple(rows.values())


def write(path: Path, rows: Iterable[Verdict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows(map(dataclasses.astuple, rows))


def _parse(line: list[str]) -> Verdict:
    if len(line) != len(FIELDS):
        raise ValueError(f"it has {len(line)} fields instead of {len(FIELDS)}")
    return Verdict(*(kind(text) for kind, text in zip(FIELDS.values(), line, strict=True)))


@functools.cache
def table() -> tuple[Verdict, ...]:
    return read(TABLE)


def dim_class(D: int) -> int:
    """Return the D of the table's rows for features of D elements.

    It only compares, so that torch.compile with a dynamic D compiles once per class.
    """
    return next((dim for dim in DIMS if D <= dim), DIMS[-1])


def words_for(dim: int) -> str:
    """Say in words which D belong to a class."""
    smaller = [other for other in DIMS if other < dim]
    if not smaller:
        return f"D up to {dim}"
    if dim == DIMS[-1]:
        return f"D above {smaller[-1]}"
    return f"D from {smaller[-1] + 1} to {dim}"
