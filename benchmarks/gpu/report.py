"""Write all results of gpu-check as markdown: acceptance, checks, ceilings, speed, training, and
tables of comparison. `summary.py` has the short version."""

import dataclasses
from typing import Any

from fastclip.backends.gpu.verified import DIMS, DTYPES
from fastclip.benchmarks import report
from fastclip.benchmarks.gpu.acceptance import lines
from fastclip.benchmarks.gpu.findings import checks, floor_ratio, tflops
from fastclip.benchmarks.gpu.kernels import ALL, Kernels
from fastclip.benchmarks.gpu.speed import FORWARD
from fastclip.benchmarks.gpu.verdict import said, verdict
from fastclip.benchmarks.results import Results, Row, row_from_json

UNDER_AUTOCAST = (
    "If features are bfloat16, open_clip and transformers run under autocast to bfloat16, as in "
    "a training step; the others take the features directly."
)

Content = dict[str, Any]


def markdown(content: Content) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in content["host"].items())
    parts = [
        f"# gpu-check\n\n{content['date']}: {facts}.\n\n`{content['command']}`",
        _acceptance(content),
        _verdicts(content),
        _correctness(content["correctness"]),
        _ceilings(content["ceilings"]),
        _speed(content),
        _training(content.get("training", [])),
        _tools(content["tools"]),
    ]
    for objective in ("clip", "siglip"):
        results = of_objective(content, objective)
        if results.rows:
            parts.append(report.markdown(results).replace("\n# ", "\n## "))
            parts.append(UNDER_AUTOCAST)
    return "\n\n".join(part for part in parts if part) + "\n"


def of_objective(content: Content, objective: str) -> Results:
    """Return the comparison's rows of one objective as `Results`.

    Rows with and without autocast are in one table: see UNDER_AUTOCAST.
    """
    fields = [field.name for field in dataclasses.fields(Row)]
    rows = [
        row_from_json({name: row[name] for name in fields})
        for row in content["comparison"]
        if row["objective"] == objective
    ]
    for row in rows:
        row.case = dataclasses.replace(row.case, autocast=False)
    return Results(objective, content["date"], content["command"], content["host"], rows)


def _acceptance(content: Content) -> str:
    rows = ["## Acceptance\n", "| | | measured |", "|---|---|---|"]
    rows += [f"| {line.name} | {line.word} | {line.measured} |" for line in lines(content)]
    return "\n".join(rows)


def _verdicts(content: Content) -> str:
    """Say which kernels are right for which features."""
    found = checks(content)
    words = {True: "right", False: "WRONG", None: "open"}
    rows = ["## Verdicts\n", "| | " + " | ".join(f"D <= {D}" for D in DIMS) + " |"]
    rows.append("|---" * (1 + len(DIMS)) + "|")
    for kernels in ALL:
        for dtype in DTYPES:
            cells = [words[verdict(found, kernels, dtype, D)[0]] for D in DIMS]
            rows.append(f"| {kernels}, {dtype} | " + " | ".join(cells) + " |")
    rows.append(
        "\nThe table for `auto`, verified.csv, has the kernels that are right and were timed in "
        "this run. To commit it, copy it to `fastclip/backends/gpu/verified.csv`."
    )
    return "\n".join(rows)


def _correctness(rows: list[dict]) -> str:
    passed = sum(row["passed"] is True for row in rows)
    failed = [row for row in rows if row["passed"] is False]
    not_run = [row for row in rows if row["passed"] is None]
    lines = [f"## Correctness\n\n{passed} of {len(rows)} checks passed."]
    lines += [f"- {said(row)}" for row in (*failed, *not_run)]
    return "\n".join(lines)


def _ceilings(rows: list[dict]) -> str:
    if not rows:
        return ""
    lines = ["## Ceilings, measured in this run\n", "| | rate |", "|---|---|"]
    for row in rows:
        rate = row.get("reason") or f"{row['rate'] / 1e12:.2f} T{row['unit']}"
        lines.append(f"| {row['name']} | {rate} |")
    return "\n".join(lines)


def _speed(content: Content) -> str:
    rows = content.get("speed", [])
    if not rows:
        return ""
    table = ["## Speed\n", "| | kernels | ms | quartiles | |", "|---|---|---|---|---|"]
    for row in rows:
        kernels = Kernels(row["backend"], row["variant"])
        N, D = row["N"], row["D"]
        name = f"{row['what']}, {row['dtype']}, N = {N}, D = {D} | {kernels}"
        if "reason" in row:
            table.append(f"| {name} | {row['reason']} | | |")
            continue
        ms = " | ".join(
            (f"{1e3 * row['seconds']:.3f}",
             f"{1e3 * row['seconds_low']:.3f} to {1e3 * row['seconds_high']:.3f}")
        )  # fmt: skip
        table.append(f"| {name} | {ms} | {_rate(content, row)} |")
    table.append(
        "\nx of the floor is the time over the time of 4 x 2 N^2 D FLOPs: at the rate of the "
        "largest matmul above, and at the rate of a matmul of the logits' shape, timed in turns."
    )
    return "\n".join(table)


def _rate(content: Content, row: dict) -> str:
    N, D, seconds = row["N"], row["D"], row["seconds"]
    if row["what"] == FORWARD:
        return f"{tflops(N, D, seconds):.0f} TFLOP/s"
    ratio = floor_ratio(content, N, D, seconds)
    of_largest = "" if ratio is None else f"{ratio:.2f}x, "
    return f"{of_largest}{row['times_floor']:.2f}x of the floor"


def _training(rows: list[dict]) -> str:
    if not rows:
        return ""
    lines = ["## Training\n", "| | result |", "|---|---|"]
    for row in rows:
        result = row.get("reason") or ("passed" if row["passed"] else "failed")
        if "seconds" in row:
            result = (
                f"{row['seconds']:.2f} s, {row['num_kept']} of {row['num_micro_batches']} graphs "
                f"kept, {row['graph_gib']:.2f} GiB each (counted {row['counted_graph_gib']:.2f}), "
                f"peak {row['peak_gib']:.1f} GiB (counted without kept graphs "
                f"{row['counted_peak_gib']:.1f})"
            )
        elif "errors" in row:
            result += ": " + ", ".join(f"{k} {v:.1e}" for k, v in row["errors"].items())
        lines.append(f"| {row['name']} | {result} |")
    return "\n".join(lines)


def _tools(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        result = row.get("reason") or ("passed" if row.get("passed") else "failed")
        at = f" at {row['at']}" if row.get("at") else ""
        lines.append(f"- {row['name']}: {result}{at}")
    return "## Other findings\n\n" + "\n".join(lines) if lines else ""
