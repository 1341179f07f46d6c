"""Results of `fastclip bench losses` as markdown: a table per N and D, and what is missing."""

from itertools import groupby

from fastclip.benchmarks.family.losses import parts_of
from fastclip.benchmarks.report import (
    MISSING,
    NOISY,
    is_noisy,
    milliseconds,
    origin,
    reasons,
    table,
)
from fastclip.benchmarks.results import Results, Row

HEADER = ["loss", "by", "time", "fastclip's time over it", "memory"]


def markdown(results: Results) -> str:
    parts = [_heading(results)]
    sizes = dict.fromkeys((row.case.N, row.case.D) for row in results.rows)
    for N, D in sizes:
        rows = [row for row in results.rows if (row.case.N, row.case.D) == (N, D)]
        parts.append(f"## N = {N:,}, D = {D}\n\n{table(HEADER, _lines(rows))}")
    parts.append(reasons(results.rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(results: Results) -> str:
    return (
        f"# The family of losses, forward + backward\n\n"
        f"{origin(results)}\n\n"
        "The implementations of one loss are timed in turns. The table has median times, and our "
        "median over theirs. Memory is the peak beyond inputs and gradients, in a fresh process. "
        "`dense` is the formula in eager "
        f"PyTorch. ~ marks quartiles more than {NOISY:.0%} apart."
    )


def _lines(rows: list[Row]) -> list[list[str]]:
    lines = []
    for loss, of_loss in groupby(rows, key=lambda row: parts_of(row.provider)[0]):
        by = {parts_of(row.provider)[1]: row for row in of_loss}
        for i, (name, row) in enumerate(by.items()):
            lines.append([loss if i == 0 else "", name, *_cells(row, by.get("fastclip"))])
    return lines


def _cells(row: Row, ours: Row | None) -> list[str]:
    memory = MISSING if row.extra_bytes is None else f"{row.extra_bytes / 2**20:,.0f} MiB"
    if row.timing is None:
        is_absent = row.reason is not None and row.reason.endswith("is not installed")
        return ["not installed" if is_absent else "not measured", MISSING, memory]
    ratio = MISSING
    if row is not ours and ours is not None and ours.timing is not None:
        ratio = f"{ours.timing.seconds / row.timing.seconds:.2f}x"
    noisy = "~" if is_noisy(row.timing) else ""
    return [noisy + milliseconds(row.timing.seconds), ratio, memory]
