"""The results of gpu-check as markdown: what is accepted, what passed, ceilings, speed, training,
and the tables of comparison."""

from typing import Any

from fastclip.benchmarks import report
from fastclip.benchmarks.gpu.acceptance import lines
from fastclip.benchmarks.gpu.findings import floor_ratio, tflops
from fastclip.benchmarks.gpu.kernels import Kernels
from fastclip.benchmarks.gpu.speed import FORWARD
from fastclip.benchmarks.results import Results, row_from_json

Content = dict[str, Any]


def markdown(content: Content) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in content["host"].items())
    parts = [
        f"# gpu-check\n\n{content['date']}: {facts}.\n\n`{content['command']}`",
        _acceptance(content),
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
    return "\n\n".join(part for part in parts if part) + "\n"


def of_objective(content: Content, objective: str) -> Results:
    """The comparison's rows of one objective, as the rest of the harness knows them."""
    rows = [dict(row) for row in content["comparison"] if row["objective"] == objective]
    for row in rows:
        del row["objective"]
    return Results(
        objective, content["date"], content["command"], content["host"],
        [row_from_json(row) for row in rows],
    )  # fmt: skip


def _acceptance(content: Content) -> str:
    said = {True: "holds", False: "DOES NOT HOLD", None: "open"}
    rows = ["## Acceptance\n", "| | | measured |", "|---|---|---|"]
    rows += [f"| {line.name} | {said[line.holds]} | {line.measured} |" for line in lines(content)]
    rows.append(
        "\nThe table of `auto` from this run, *-verified.csv, has the kernels of which every check "
        "passed. To commit it: copy it to `fastclip/backends/gpu/verified.csv`."
    )
    return "\n".join(rows)


def _correctness(rows: list[dict]) -> str:
    failed = [row for row in rows if not row["passed"]]
    lines = [f"## Correctness\n\n{len(rows) - len(failed)} of {len(rows)} checks passed."]
    lines += [f"- {row['name']}: {row.get('reason', 'failed')}" for row in failed]
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
        if "what" not in row:
            table.append(f"| | {row['name']} | {row['reason']} | | |")
            continue
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
        "\nx of the floor: over 4 x 2 N^2 D at the rate of the largest matmul above, and of one of "
        "the logits' shape, timed in turns with it."
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
        said = row.get("reason") or ("passed" if row["passed"] else "failed")
        if "seconds" in row:
            said = (
                f"{row['seconds']:.2f} s, {row['num_kept']} of {row['num_micro_batches']} graphs "
                f"kept, {row['graph_gib']:.2f} GiB each (counted {row['counted_graph_gib']:.2f}), "
                f"peak {row['peak_gib']:.1f} GiB (counted without kept graphs "
                f"{row['counted_peak_gib']:.1f})"
            )
        elif "errors" in row:
            said += ": " + ", ".join(f"{k} {v:.1e}" for k, v in row["errors"].items())
        lines.append(f"| {row['name']} | {said} |")
    return "\n".join(lines)


def _tools(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        said = row.get("reason") or ("passed" if row.get("passed") else "failed")
        at = f" at {row['at']}" if row.get("at") else ""
        lines.append(f"- {row['name']}: {said}{at}")
    return "## Other findings\n\n" + "\n".join(lines) if lines else ""
