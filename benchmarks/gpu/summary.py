"""Summarise a run in bounded space: acceptance, failures and speeds.

gpu-first and gpu-check print their summary last, so that it survives where only the last 12,000
characters of an output are kept. The report and the results on disk have everything.
"""

from collections.abc import Iterable
from typing import Any

from fastclip.backends.gpu.verified import DIMS, DTYPES
from fastclip.benchmarks.gpu.acceptance import lines
from fastclip.benchmarks.gpu.findings import checks, floor_ratio, tflops
from fastclip.benchmarks.gpu.kernels import ALL, Kernels
from fastclip.benchmarks.gpu.speed import FORWARD
from fastclip.benchmarks.gpu.verdict import said, verdict

LIMIT = 11_500  # characters of a summary, all sections together
LINE = 180  # characters of a line
# Characters of each section; unused ones are not given to other sections, so their sum is a bound.
ACCEPTANCE, VERDICTS, FAILURES, OTHERS, SPEED, COMPARISON = 2300, 1300, 2600, 900, 2700, 1500

Content = dict[str, Any]


def summary(content: Content) -> str:
    found = checks(content)
    failures = [said(row) for row in found if row["passed"] is False]
    failures += [said(row) for row in content["training"] if row["passed"] is False]
    not_run = sum(row["passed"] is None for row in found)
    failures += [f"{not_run} checks did not run"] if not_run else []
    others = [
        f"{row['name']}: {row.get('reason', row.get('passed'))}"
        for row in content["tools"]
        if not row.get("passed")
    ]
    accepted = [f"{line.word}: {line.name}: {line.measured}" for line in lines(content)]
    return "\n".join(
        [
            section("Acceptance", accepted, ACCEPTANCE),
            section(f"Right, by D of {DIMS}", _verdicts(found), VERDICTS),
            section("Failures", failures or ["none"], FAILURES),
            section("Other findings", others, OTHERS),
            section("Speed", _speeds(content), SPEED),
            section("Comparison, ms of a step", _comparison(content), COMPARISON),
        ]
    )


def section(title: str, lines: Iterable[str], characters: int) -> str:
    """Return a title and lines within the characters, with the number of omitted lines."""
    text, every = f"== {title}\n", list(lines)
    for index, line in enumerate(every):
        shown = line if len(line) <= LINE else line[: LINE - 3] + "..."
        rest = f"... and {len(every) - index} more\n"
        is_last = index + 1 == len(every)
        if len(text) + len(shown) + 1 + (0 if is_last else len(rest)) > characters:
            return text + rest
        text += shown + "\n"
    return text


def _verdicts(found: list[dict]) -> list[str]:
    words = {True: "right", False: "WRONG", None: "open"}
    return [
        f"{kernels} {dtype}: "
        + ", ".join(words[verdict(found, kernels, dtype, D)[0]] for D in DIMS)
        for kernels in ALL
        for dtype in DTYPES
    ]


def _speeds(content: Content) -> list[str]:
    """Return a line per size: every set of kernels with its TFLOP/s, or its time over the floor."""
    cells: dict[str, list[str]] = {}
    for row in content["speed"]:
        at = f"{row['what']} {row['N']}x{row['D']} {row['dtype']}"
        cells.setdefault(at, []).append(
            f"{Kernels(row['backend'], row['variant'])} {_time(content, row)}"
        )
    return [f"{at}: " + ", ".join(times) for at, times in cells.items()]


def _time(content: Content, row: dict) -> str:
    if "reason" in row:
        return row["reason"][:40]
    ms, N, D = 1e3 * row["seconds"], row["N"], row["D"]
    if row["what"] == FORWARD:
        return f"{ms:.3f} ms ({tflops(N, D, row['seconds']):.0f} TFLOP/s)"
    ratio = floor_ratio(content, N, D, row["seconds"]) or row["times_floor"]
    return f"{ms:.3f} ms ({ratio:.2f}x)"


def _comparison(content: Content) -> list[str]:
    cells: dict[str, list[str]] = {}
    for row in content["comparison"]:
        if row["timing"]:
            case = row["case"]
            at = f"{row['objective']} {case['N']}x{case['D']} {case['dtype']}"
            ms = 1e3 * row["timing"]["seconds"]
            cells.setdefault(at, []).append(f"{row['provider'].removeprefix('fastclip/')} {ms:.2f}")
    return [f"{at}: " + ", ".join(times) for at, times in cells.items()]
