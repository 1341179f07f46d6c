"""Write results as CSV: a line per row, with everything that a table or a statistic may group by.

Each column has one unit, which its name says; cells are empty where nothing was measured. The
samples of rounds are in the JSON only.
"""

import csv
import io
from typing import Any

from fastclip.benchmarks.accuracy import INPUT_NAMES
from fastclip.benchmarks.results import FAMILY, Results, Row, case_to_json
from fastclip.benchmarks.step import PRODUCTS
from fastclip.benchmarks.timing import floor_flops

ERRORS = ("loss", *INPUT_NAMES)


def csv_text(results: Results) -> str:
    """Return the table with its header; lines end with a bare newline.

    Example:
        >>> from fastclip.benchmarks.results import Results
        >>> csv_text(Results("clip", "2026-01-31", "", {})).splitlines()[0][:31]
        'objective,provider,what,N,D,dty'
    """
    lines = [_line(results, row) for row in results.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


COLUMNS = (
    "objective", "provider", "what", "N", "D", "dtype", "logit_scale", "data", "autocast",
    "normalize", "device", "seconds", "seconds_low", "seconds_high", "rounds", "times_floor",
    "flops_per_second", "matmul_flops_per_second", "extra_bytes", "moved_bytes",
    *(f"error_{name}" for name in ERRORS), "reason", "memory_reason",
    "date", "commit", "fastclip", "torch", "machine", "threads",
)  # fmt: skip


def _line(results: Results, row: Row) -> dict[str, Any]:
    host, timing = results.host, row.timing
    line = {
        "objective": results.objective,
        "provider": row.provider,
        "what": row.what,
        **case_to_json(row.case),
        "extra_bytes": row.extra_bytes,
        "moved_bytes": row.moved_bytes,
        **{f"error_{name}": error for name, error in (row.errors or {}).items() if name in ERRORS},
        "reason": row.reason,
        "memory_reason": row.memory_reason,
        "date": results.date,
        "commit": results.commit,
        "fastclip": host.get("fastclip"),
        "torch": host.get("torch"),
        "machine": host.get("gpu", host.get("cpu")),
        "threads": host.get("threads"),
    }
    if timing is not None:
        floor = floor_flops(row.case.N, row.case.D, PRODUCTS[row.what])
        names = ("seconds", "seconds_low", "seconds_high", "rounds")
        line |= {name: getattr(timing, name) for name in names}
        if results.objective != FAMILY:  # the losses of a family have other floors
            line["times_floor"] = timing.times_floor
            line["flops_per_second"] = floor / timing.seconds
        line["matmul_flops_per_second"] = timing.matmul_flops_per_second
    return line
