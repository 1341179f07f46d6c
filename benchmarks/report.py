"""Write results as markdown: a table per condition, errors, and what was not measured.

A condition is everything about a case except its N. A table has a row per provider and a column per
N, so that only comparable times stand in one table.
"""

from collections.abc import Iterable
from typing import NamedTuple

from fastclip.benchmarks.accuracy import INPUT_NAMES
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.results import Results, Row
from fastclip.benchmarks.step import STEP
from fastclip.benchmarks.timing import Timing

# A cell is marked where its quartiles are further apart than this fraction of the median.
NOISY = 0.10
FAR = 0.10  # the relative error, in norm, from which on a provider is listed
MISSING = "–"


class Condition(NamedTuple):
    D: int
    dtype: str
    autocast: bool
    data: str
    logit_scale: float
    normalize: bool

    def __str__(self) -> str:
        dtype = f"{self.dtype} under autocast to bfloat16" if self.autocast else self.dtype
        normalize = ", normalisation included" if self.normalize else ""
        scale = f"logit_scale {self.logit_scale:g}"
        return f"{dtype}, {self.data} embeddings, D = {self.D}, {scale}{normalize}"


def condition_of(case: Case) -> Condition:
    dtype = str(case.dtype).removeprefix("torch.")
    return Condition(case.D, dtype, case.autocast, case.data, case.logit_scale, case.normalize)


def by_condition(results: Results) -> dict[Condition, list[Row]]:
    grouped = {}
    for row in results.rows:
        grouped.setdefault(condition_of(row.case), []).append(row)
    return grouped


def markdown(results: Results) -> str:
    parts = [_heading(results)]
    conditions = by_condition(results)
    for condition, rows in conditions.items():
        parts.append(f"## {condition}\n\n{_main_table(rows, rate_name(results))}")
    parts.append(_against_first_condition(conditions))
    parts.append(_error_table(results.rows))
    parts.append(_far_from_float64(results.rows))
    parts.append(reasons(results.rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(results: Results) -> str:
    name = {"clip": "CLIP loss", "siglip": "SigLIP loss"}[results.objective]
    return (
        f"# {name}, forward + backward\n\n"
        f"{origin(results)}\n\n"
        f"{_parts_explained(results.rows)}x is the time over the time of 8 N^2 D FLOPs at the "
        f"{rate_name(results)} rate of the same rounds; MiB are peak memory beyond inputs and "
        f"gradients; ~ marks quartiles more than {NOISY:.0%} apart."
    )


def origin(results: Results) -> str:
    """Say when, where, with which code and by which command a run ran, and whether it ended."""
    host = ", ".join(f"{key} {value}" for key, value in results.host.items())
    commit = f", commit {results.commit}" if results.commit else ""
    lines = [f"{results.date}: {host}{commit}.", f"`{results.command}`"]
    lines += [f"{name}: {source}." for name, source in results.sources.items()]
    if not results.complete:
        lines.append("This run was stopped before its end.")
    if results.ceilings_reason is not None:
        lines.append(f"There is no roofline without ceilings: {results.ceilings_reason}.")
    return "\n".join(lines)


def _parts_explained(rows: list[Row]) -> str:
    if all(row.what == STEP for row in rows):
        return ""
    return "A forward alone is compared with 2 N^2 D FLOPs, a backward alone with 6 N^2 D. "


def rate_name(results: Results) -> str:
    """Return the name of the matrix product that times are compared with."""
    return "bfloat16 matmul" if "gpu" in results.host else "float32 matmul"


def _main_table(rows: list[Row], rate: str) -> str:
    cells = {(row.label, row.case.N): _cell(row) for row in rows}
    sizes = sorted({row.case.N for row in rows})
    lines = [
        [name, *(cells.get((name, size), MISSING) for size in sizes)]
        for name in dict.fromkeys(row.label for row in rows)
    ]
    rates = [_matmul_rate(row for row in rows if row.case.N == size) for size in sizes]
    lines = [line for line in lines if set(line[1:]) != {MISSING}]
    return _size_table(sizes, [*lines, [rate, *rates]])


def _cell(row: Row) -> str:
    parts = []
    if row.timing is not None:
        noisy = "~" if is_noisy(row.timing) else ""
        parts += [f"{noisy}{row.timing.times_floor:.2f}x", milliseconds(row.timing.seconds)]
    if row.extra_bytes is not None:
        parts.append(f"{row.extra_bytes / 2**20:,.0f} MiB")
    return ", ".join(parts) or MISSING


def is_noisy(timing: Timing) -> bool:
    return (timing.seconds_high - timing.seconds_low) / timing.seconds > NOISY


def milliseconds(seconds: float) -> str:
    milliseconds = 1e3 * seconds
    return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"


def _matmul_rate(rows: Iterable[Row]) -> str:
    rates = (row.timing.matmul_flops_per_second for row in rows if row.timing is not None)
    rate = next(rates, None)
    return MISSING if rate is None else f"{rate / 1e9:.0f} GFLOP/s"


def _against_first_condition(conditions: dict[Condition, list[Row]]) -> str:
    """Divide each provider's time in a condition by its own time in the run's first condition."""
    (first, base_rows), *others = conditions.items()
    base = {(row.label, row.case.N): row.timing for row in base_rows if row.timing}
    tables = []
    for condition, rows in others:
        ratios = {
            (row.label, row.case.N): row.timing.times_floor / timing.times_floor
            for row in rows
            if row.timing and (timing := base.get((row.label, row.case.N)))
        }
        # With another D, this would be a ratio of two floors for different work.
        if ratios and condition.D == first.D:
            tables.append(f"{condition}:\n\n{_ratio_table(ratios)}")
    if not tables:
        return ""
    return f"## Time over the same provider's time for {first}\n\n" + "\n\n".join(tables)


def _ratio_table(ratios: dict[tuple[str, int], float]) -> str:
    sizes = sorted({size for _, size in ratios})
    cells = {key: f"{ratio:.2f}" for key, ratio in ratios.items()}
    names = dict.fromkeys(name for name, _ in ratios)
    lines = [[name, *(cells.get((name, size), MISSING) for size in sizes)] for name in names]
    return _size_table(sizes, lines)


def _error_table(rows: list[Row]) -> str:
    measured = [row for row in rows if row.errors is not None]
    if not measured:
        return ""
    names = [name for name in ("loss", *INPUT_NAMES) if name in measured[0].errors]
    lines = [
        [row.provider, str(row.case), *(f"{row.errors[name]:.1e}" for name in names)]
        for row in measured
    ]
    header = ["", "case", "loss", *(f"d {name}" for name in names[1:])]
    return f"## Relative error against float64\n\n{table(header, lines)}"


def _far_from_float64(rows: list[Row]) -> str:
    """List the providers whose results are so far from float64 that they may be wrong."""
    worst = {
        f"{row.provider} ({row.case})": max(
            (error, name) for name, error in row.errors.items() if name != "loss_absolute"
        )
        for row in rows
        if row.errors is not None
    }
    lines = [
        f"- {who}: {'loss' if name == 'loss' else f'd {name}'} by {error:.0%}"
        for who, (error, name) in worst.items()
        if not error <= FAR
    ]
    return f"## Further than {FAR:.0%} from float64\n\n" + "\n".join(lines) if lines else ""


def reasons(rows: list[Row]) -> str:
    """List what was not measured, and whose memory was not, or in another way, with reasons."""
    cases = {}
    for row in rows:
        if row.reason is not None:
            cases.setdefault((row.label, row.reason), []).append(str(row.case))
        elif row.memory_reason is not None:
            missing = "memory: " if row.extra_bytes is None else "memory was "
            cases.setdefault((row.label, missing + row.memory_reason), []).append(str(row.case))
    lines = [
        f"- {provider} ({', '.join(names)}): {reason}" if len(names) < 4
        else f"- {provider} ({len(names)} cases): {reason}"
        for (provider, reason), names in cases.items()
    ]  # fmt: skip
    return "## Not measured\n\n" + "\n".join(lines) if lines else ""


def _size_table(sizes: list[int], lines: list[list[str]]) -> str:
    return table(["", *(f"N = {size:,}" for size in sizes)], lines)


def table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))
