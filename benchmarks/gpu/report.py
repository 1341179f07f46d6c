"""The results of gpu-check as markdown: what passed, the ceilings, and the tables of comparison."""

from typing import Any

from fastclip.benchmarks import report
from fastclip.benchmarks.results import Results, row_from_json

Content = dict[str, Any]


def markdown(content: Content) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in content["host"].items())
    parts = [
        f"# gpu-check\n\n{content['date']}: {facts}.\n\n`{content['command']}`",
        _correctness(content["correctness"]),
        _ceilings(content["ceilings"]),
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
