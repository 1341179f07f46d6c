"""Write a comparison as markdown."""

from collections.abc import Iterable

from fastclip.benchmarks.compare.judge import (
    ALLOWED,
    FASTER,
    NOISE,
    SLOWER,
    UNCLEAR,
    Compared,
    Comparison,
    Key,
)
from fastclip.benchmarks.report import MISSING, milliseconds, origin, table
from fastclip.benchmarks.results import Results, Row

HEADER = ["", "before", "after", "ratio", "95 % interval", "memory", ""]


def markdown(comparison: Comparison, before: Results, after: Results, limit: float | None) -> str:
    """Return the report on two runs."""
    places = "\n\n".join(
        f"{name}: {origin(x)}" for name, x in (("before", before), ("after", after))
    )
    how = (
        "Ratios are after over before, of times over the matmul in the same rounds: medians of all "
        "ratios of a round of one and a round of the other. The interval does not cover "
        "differences between the runs that last longer than a round."
    )
    return _page("Two runs", places, how, comparison, limit, "Only in the second")


def markdown_of_providers(
    comparison: Comparison, results: Results, base: str, limit: float | None
) -> str:
    """Return the report on the providers of one run."""
    how = f"before is {base}. Ratios are formed within rounds; the table has their medians."
    return _page(f"Against {base}", origin(results), how, comparison, limit, "Not compared")


def _page(
    title: str,
    places: str,
    how: str,
    comparison: Comparison,
    limit: float | None,
    title_of_others: str,
) -> str:
    parts = [f"# {title}", places, f"{how} {_limit(limit)}"]
    if comparison.differences:
        lines = "\n".join(f"- {difference}" for difference in comparison.differences)
        parts.append(f"## The machines differ, so times do too\n\n{lines}")
    parts.append(table(HEADER, [_line(one) for one in comparison.compared]))
    parts.append(_reasons(comparison))
    parts.append(
        _alone(
            "Only in the first", [f"{key}: {why}" for key, why in comparison.only_before.items()]
        )
    )
    parts.append(_alone("Not timed", [f"{key}: {why}" for key, why in comparison.untimed.items()]))
    parts.append(_alone(title_of_others, comparison.only_after))
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(comparison: Comparison) -> str:
    """Return a line with the number of each verdict, and of rows that lack a time to compare."""
    verdicts = (SLOWER, UNCLEAR, ALLOWED, NOISE, FASTER)
    counts = {verdict: len(comparison.with_verdict(verdict)) for verdict in verdicts}
    counts["only in the first"] = len(comparison.only_before)
    counts["not timed"] = len(comparison.untimed)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def _limit(limit: float | None) -> str:
    if limit is None:
        return "Slower and faster: the interval lies above and below 1."
    return f"Slower: the interval lies above {1 + limit:.4g}."


def _line(one: Compared) -> list[str]:
    interval = one.interval
    ratio = one.after.timing.times_floor / one.before.timing.times_floor
    return [
        str(one.key),
        _time(one.before),
        _time(one.after),
        f"{ratio if interval is None else interval.ratio:.3f}",
        f"{interval.low:.3f} to {interval.high:.3f}" if interval and interval.is_known else MISSING,
        _memory(one),
        one.verdict,
    ]


def _time(row: Row) -> str:
    return milliseconds(row.timing.seconds)


def _memory(one: Compared) -> str:
    both = [row.extra_bytes for row in (one.before, one.after)]
    if None in both:
        return MISSING
    before, after = (f"{x / 2**20:,.0f}" for x in both)
    return f"{before} to {after} MiB"


def _reasons(comparison: Comparison) -> str:
    lines = [f"- {one.key}: {one.reason}" for one in comparison.with_verdict(UNCLEAR)]
    if not lines:
        return ""
    told = "\n".join(lines)
    return f"## Cannot tell\n\n{told}"


def _alone(title: str, keys: Iterable[Key | str]) -> str:
    lines = "\n".join(f"- {key}" for key in keys)
    return f"## {title}\n\n{lines}" if keys else ""
