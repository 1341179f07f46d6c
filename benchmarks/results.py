"""Results: one row per case and provider, and the facts of the host, as JSON.

Results are saved after every stage of a run, so that an interrupted run keeps what it has. The
format has a version. Files without a version have version 1, and are read as well:

    1   rows with case, provider, timing, extra_bytes, errors, reason
    2   also schema_version, commit, complete, sources, ceilings and ceilings_reason; in each row
        what, memory_reason and moved_bytes; in each timing the samples of all rounds
"""

import dataclasses
import datetime
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.step import STEP
from fastclip.benchmarks.timing import Timing

SCHEMA_VERSION = 2
FAMILY = "losses"  # the objective of results that hold several losses


@dataclass
class Row:
    """The measurements of a provider on a case; None means not measured, `reason` says why."""

    case: Case
    provider: str
    reason: str | None = None
    timing: Timing | None = None
    extra_bytes: int | None = None  # peak beyond inputs and gradients
    errors: dict[str, float] | None = None
    what: str = STEP  # what was timed: a step, or the forward or the backward alone
    memory_reason: str | None = None  # why extra_bytes are missing, or a lower bound
    moved_bytes: int | None = None  # bytes that operators read and write: see traffic.py

    @property
    def label(self) -> str:
        """The name of the provider, and what was timed if that is not a step."""
        return self.provider if self.what == STEP else f"{self.provider}, {self.what}"


@dataclass
class Results:
    objective: str  # "clip", "siglip", or FAMILY: rows of all losses, of providers "<loss>/<name>"
    date: str  # ISO 8601, local time
    command: str
    host: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    commit: str | None = None  # of fastclip's repository; None for an installed package
    complete: bool = True  # False while the run goes on, and if it was stopped
    sources: dict[str, str] = field(default_factory=dict)  # states of the files of users' functions
    ceilings: dict[str, Any] = field(default_factory=dict)  # see ceilings.py
    ceilings_reason: str | None = None  # why ceilings are missing although they were wanted
    schema_version: int = SCHEMA_VERSION

    def save(self, path: Path) -> None:
        content = {**vars(self), "rows": [row_to_json(row) for row in self.rows]}
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file is replaced atomically: neither a reader nor an interrupt finds half a file.
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.replace(path)


def load_results(path: Path) -> Results:
    """Read results that `fastclip bench` wrote with --output.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds something else.
    """
    try:
        content = json.loads(path.read_text())
        version = content.get("schema_version", 1)
        if version not in range(1, SCHEMA_VERSION + 1):
            raise ValueError(
                f"schema_version is {version!r}, but this fastclip reads up to {SCHEMA_VERSION}"
            )
        rows = [row_from_json(row) for row in content.pop("rows")]
        return Results(**{**content, "schema_version": SCHEMA_VERSION}, rows=rows)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no results of fastclip bench: {error!r}") from None


def write_measurement(
    output: Path, name: str, module: str, argv: list[str] | None, results: Mapping[str, Any]
) -> Path:
    """Write the results of a separate benchmark, with its command and the facts of the host.

    Args:
        output: the folder of all devices' results.
        name: the name of the measurement, which is part of the file's name.
        module, argv: the module and the arguments with which it was started.

    Returns:
        The file, `output/<device>/<date>-<name>.json`.
    """
    now = datetime.datetime.now().astimezone()
    path = output / host.device_name() / f"{now:%Y-%m-%d-%H%M%S}-{name}.json"
    content = {
        "command": shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)]),
        "date": now.isoformat(timespec="seconds"),
        "host": host.facts(),
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def case_to_json(case: Case) -> dict[str, Any]:
    return {**dataclasses.asdict(case), "dtype": str(case.dtype).removeprefix("torch.")}


def case_from_json(content: dict[str, Any]) -> Case:
    return Case(**{**content, "dtype": getattr(torch, content["dtype"])})


def row_to_json(row: Row) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "case": case_to_json(row.case)}


def row_from_json(content: dict[str, Any]) -> Row:
    timing = content["timing"]
    if timing is not None:
        samples = {x: tuple(timing.get(x, ())) for x in ("samples", "matmul_samples")}
        timing = Timing(**{**timing, **samples})
    return Row(**{**content, "case": case_from_json(content["case"]), "timing": timing})
