"""Draw all figures of results: time and memory against N, and the roofline, per condition.

A point is the median over rounds, and its bar reaches from quartile to quartile. Both axes are
logarithmic. The names of lines are at their right ends.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastclip.benchmarks.figures.labels import label_ends
from fastclip.benchmarks.figures.roofline import save_roofline
from fastclip.benchmarks.figures.style import figure_of, logarithmic, styles_of
from fastclip.benchmarks.report import Condition, by_condition, rate_name
from fastclip.benchmarks.results import Results, Row
from fastclip.benchmarks.step import BACKWARD, FORWARD, PRODUCTS, STEP
from fastclip.benchmarks.timing import floor_flops


class Point(NamedTuple):
    N: int
    value: float
    low: float  # the lower quartile
    high: float


Curves = dict[str, list[Point]]  # by provider, N ascending
TITLES = {STEP: "Forward + backward", FORWARD: "Forward alone", BACKWARD: "Backward alone"}
FLOOR_STYLE = {"color": "#999999", "linestyle": (0, (6, 2)), "linewidth": 1.0}


def save_plots(results: Results, stem: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write `<stem>-<condition>-<kind>` for all kinds of DRAWN for which there are measurements.

    Args:
        results: results of one objective.
        stem: the path of the results without its suffix.
        formats: suffixes of files, such as png, pdf and svg; each figure is written in all of them.

    Returns:
        The written files.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    written = []
    for condition, rows in by_condition(results).items():
        name = f"{stem.name}-{_file_name(condition)}"
        for suffix in formats:
            for kind, draw in DRAWN.items():
                path = stem.with_name(f"{name}-{kind}.{suffix}")
                if draw(results, condition, rows, path):
                    written.append(path)
    return written


def _file_name(condition: Condition) -> str:
    dtype = f"{condition.dtype}-autocast" if condition.autocast else condition.dtype
    normalize = "-normalize" if condition.normalize else ""
    return f"{condition.data}-{dtype}-d{condition.D}-scale{condition.logit_scale:g}{normalize}"


def _time(what: str, results: Results, condition: Condition, rows: list[Row], path: Path) -> bool:
    timed = [row for row in rows if row.timing is not None and row.what == what]
    if not timed:
        return False
    curves = _curves(
        (row.provider, Point(row.case.N, *(1e3 * x for x in _quartiles(row)))) for row in timed
    )
    rates = {row.case.N: row.timing.matmul_flops_per_second for row in timed}
    floor = [
        (N, 1e3 * floor_flops(N, condition.D, PRODUCTS[what]) / rate)
        for N, rate in sorted(rates.items())
    ]
    title = f"{TITLES[what]}: {condition}"
    note = (
        "Points are medians over rounds, bars their quartiles. The grey line is the time of "
        f"{2 * PRODUCTS[what]} N²D FLOPs at the rate of a {rate_name(results)} in the same rounds."
    )
    _draw(results, rows, curves, title, "milliseconds", note, path, floor)
    return True


def _memory(results: Results, condition: Condition, rows: list[Row], path: Path) -> bool:
    # A logarithmic axis has no zero: less than a MiB is drawn as one.
    measured = (
        (row.provider, Point(row.case.N, *(3 * (max(1.0, row.extra_bytes / 2**20),))))
        for row in rows
        if row.extra_bytes is not None
    )
    curves = _curves(measured)
    if curves:
        title = f"Peak memory beyond inputs and gradients: {condition}"
        note = "Memory of one forward and backward; less than 1 MiB is drawn as 1 MiB."
        _draw(results, rows, curves, title, "MiB", note, path)
    return bool(curves)


def _quartiles(row: Row) -> tuple[float, float, float]:
    return row.timing.seconds, row.timing.seconds_low, row.timing.seconds_high


def _curves(points: Iterable[tuple[str, Point]]) -> Curves:
    curves = {}
    for name, point in points:
        curves.setdefault(name, []).append(point)
    return {name: sorted(curve) for name, curve in curves.items()}


def _draw(
    results: Results,
    rows: list[Row],
    curves: Curves,
    title: str,
    unit: str,
    note: str,
    path: Path,
    floor: Sequence[tuple[int, float]] = (),
) -> None:
    with figure_of(results, title, note, path) as (_, axes):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        styles = styles_of([row.provider for row in rows], results.sources)
        if floor:
            axes.plot(*zip(*floor, strict=True), **FLOOR_STYLE)
        for name, curve in curves.items():
            N, values, low, high = zip(*curve, strict=True)
            # Quartiles of a measurement lie on both sides of its median.
            below = [v - x for v, x in zip(values, low, strict=True)]
            above = [x - v for v, x in zip(values, high, strict=True)]
            axes.errorbar(N, values, yerr=(below, above), capsize=2.5, elinewidth=1, **styles[name])
        sizes = sorted({point.N for curve in curves.values() for point in curve})
        axes.set_xticks(sizes, [f"{N:,}" for N in sizes])
        axes.xaxis.minorticks_off()
        if len(sizes) == 1:
            axes.set_xlim(sizes[0] / 1.5, sizes[0] * 1.5)
        axes.set_xlabel("N, pairs in the batch", fontsize=9)
        axes.set_ylabel(unit, fontsize=9)
        logarithmic(axes.yaxis, *axes.get_ylim())
        ends = {name: (curve[-1].N, curve[-1].value) for name, curve in curves.items()}
        label_ends(axes, ends, styles)


DRAWN = {
    "time": functools.partial(_time, STEP),
    "forward": functools.partial(_time, FORWARD),
    "backward": functools.partial(_time, BACKWARD),
    "memory": _memory,
    "roofline": save_roofline,
}
