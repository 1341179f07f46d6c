"""Which kernels have run correctly on which GPU, and how fast: what "auto" knows of them.

The table is `verified.csv`, a row per kernels, architecture, dtype and D. `make gpu-check` writes
it anew: rows of kernels of which every check passed in the same run. Nothing else verifies a
kernel. Each architecture is measured at DIMS; features of another D are taken for the next larger.
"""

import csv
import dataclasses
import datetime
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("verified.csv")
DIMS = (512, 768, 1024)
DTYPES = ("bfloat16", "float16", "float32")
KERNELS = (("triton", ""), ("cuda", "portable"), ("cuda", "hopper"))  # backend, variant


@dataclass(frozen=True)
class Verdict:
    """One measurement, medians of an interleaved run. Raises ValueError if it cannot be one."""

    architecture: str  # as `device.architecture` names it
    dtype: str
    D: int
    backend: str
    variant: str  # of the backend's kernels; "" where it has one
    N: int  # pairs that were measured
    forward_ms: float
    step_ms: float  # forward and backward
    device: str
    date: str
    command: str

    def __post_init__(self) -> None:
        for holds, what in (
            (re.fullmatch(r"sm_\d+|gfx\w+", self.architecture), "architecture"),
            (self.dtype in DTYPES, "dtype"),
            (self.D in DIMS, "D"),
            ((self.backend, self.variant) in KERNELS, "backend"),
            (self.N > 0, "N"),
            (0.0 < self.forward_ms < self.step_ms < math.inf, "forward_ms"),
            (self.device, "device"),
            (datetime.date.fromisoformat(self.date), "date"),
            (self.command, "command"),
        ):
            if not holds:
                raise ValueError(f"{what} cannot be {getattr(self, what)!r}")

    @property
    def kernels(self) -> tuple[str, str]:
        return self.backend, self.variant

    @property
    def key(self) -> tuple:
        """What there is one row of."""
        return self.architecture, self.dtype, self.D, *self.kernels


FIELDS = {field.name: field.type for field in dataclasses.fields(Verdict)}


def read(path: Path) -> tuple[Verdict, ...]:
    """Raises ValueError, with the line, if the table is malformed."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if lines[:1] != [list(FIELDS)]:
        raise ValueError(f"{path.name}: the first line must be {','.join(FIELDS)}")
    rows = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            row = _parse(line)
            if row.key in rows:
                raise ValueError("the same as an earlier line's kernels, dtype and D")
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
        raise ValueError(f"{len(line)} fields instead of {len(FIELDS)}")
    return Verdict(*(kind(text) for kind, text in zip(FIELDS.values(), line, strict=True)))


@functools.cache
def table() -> tuple[Verdict, ...]:
    return read(TABLE)


def dim_class(D: int) -> int:
    """The D of the table's rows for features of D elements.

    Only compares: torch.compile with a dynamic D compiles once per class.
    """
    return next((dim for dim in DIMS if D <= dim), DIMS[-1])


def reason_against(
    backend: str, running: Mapping[str, str], architecture: str, dtype: str, dim: int
) -> str | None:
    """Why "auto" would not take `backend` for features of a kind; None for the fastest verified.

    Args:
        running: the GPU backends that would run if named, and the variant of each.
        dim: of `dim_class`.
    """
    rows = {row.key: row for row in table()}
    cells = {
        name: row
        for name, variant in running.items()
        if (row := rows.get((architecture, dtype, dim, name, variant))) is not None
    }
    if backend not in cells:
        return f"unverified on {architecture}: make gpu-check has not passed for {dtype}, D = {dim}"
    ours, best = cells[backend], min(cells.values(), key=lambda row: row.step_ms)
    if ours is best:
        return None
    return (
        f"slower than {best.backend} here ({ours.step_ms:.4g} ms against {best.step_ms:.4g} ms, "
        f"{dtype}, N = {best.N}, D = {dim}, {best.date})"
    )
