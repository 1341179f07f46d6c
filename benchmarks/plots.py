"""Time and memory against N as PNG: one pair of plots per condition, both axes logarithmic.

Lines carry their names at their right end instead of a legend; ours are in colour, peers in grey.
"""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fastclip.benchmarks.report import Condition, by_condition
from fastclip.benchmarks.results import Results, Row
from fastclip.benchmarks.timing import floor_flops

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = ("#0b6e4f", "#1f9e89", "#6a994e", "#a7c957", "#386641")
GREYS, DASHES = ("#4d4d4d", "#737373", "#999999"), ("-", "--", ":")
PEERS = tuple((grey, dashes) for dashes in DASHES for grey in GREYS)
FLOOR = "8 N²D at the matmul rate"
LABEL_SPACING = 0.045  # of the height of the axes: about one line of text

Curve = list[tuple[int, float]]  # (N, value), N ascending


def save_plots(results: Results, stem: Path) -> list[Path]:
    """Write `<stem>-<condition>-time.png` and `-memory.png`; return what was written."""
    written = []
    for condition, rows in by_condition(results).items():
        name = f"{stem.name}-{_file_name(condition)}"
        time_path, memory_path = (stem.with_name(f"{name}-{x}.png") for x in ("time", "memory"))
        times, memory = _time_curves(rows), _memory_curves(rows)
        if times:
            title = f"Forward + backward: {condition}"
            _plot(times, title, "milliseconds", time_path)
            written.append(time_path)
        if memory:
            title = f"Peak memory beyond inputs and gradients: {condition}"
            _plot(memory, title, "MiB", memory_path)
            written.append(memory_path)
    return written


def _file_name(condition: Condition) -> str:
    dtype = f"{condition.dtype}-autocast" if condition.autocast else condition.dtype
    normalize = "-normalize" if condition.normalize else ""
    return f"{condition.data}-{dtype}-d{condition.D}-scale{condition.logit_scale:g}{normalize}"


def _time_curves(rows: list[Row]) -> dict[str, Curve]:
    timed = [row for row in rows if row.timing is not None]
    curves = _curves((row.provider, row.case.N, 1e3 * row.timing.seconds) for row in timed)
    rates = {row.case.N: row.timing.matmul_flops_per_second for row in timed}
    if rates:
        D = timed[0].case.D
        curves[FLOOR] = [(N, 1e3 * floor_flops(N, D) / rate) for N, rate in sorted(rates.items())]
    return curves


def _memory_curves(rows: list[Row]) -> dict[str, Curve]:
    # A logarithmic axis has no zero: less than a MiB is drawn as one.
    return _curves(
        (row.provider, row.case.N, max(1.0, row.extra_bytes / 2**20))
        for row in rows
        if row.extra_bytes is not None
    )


def _curves(points: Iterable[tuple[str, int, float]]) -> dict[str, Curve]:
    curves = {}
    for name, N, value in points:
        curves.setdefault(name, []).append((N, value))
    return {name: sorted(curve) for name, curve in curves.items()}


def _plot(curves: dict[str, Curve], title: str, unit: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    styles = _styles(curves)
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), markersize=3.5, **styles[name])
    sizes = sorted({N for curve in curves.values() for N, _ in curve})
    axes.set_xticks(sizes, [f"{N:,}" for N in sizes])
    axes.minorticks_off()
    axes.set_xlabel("N, pairs in the batch")
    axes.set_ylabel(unit)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _label_ends(axes, curves, styles)
    figure.savefig(path)


def _styles(curves: dict[str, Curve]) -> dict[str, dict]:
    styles, ours, peers = {}, itertools.cycle(OURS), itertools.cycle(PEERS)
    for name in curves:
        if name == FLOOR:
            styles[name] = {"color": "#c1121f", "linestyle": "--", "linewidth": 1}
        elif name.startswith("fastclip/"):
            styles[name] = {"color": next(ours), "marker": "o", "linewidth": 2.2, "zorder": 3}
        else:
            color, dashes = next(peers)
            styles[name] = {"color": color, "linestyle": dashes, "marker": "o", "linewidth": 1.2}
    return styles


def _label_ends(axes: "Axes", curves: dict[str, Curve], styles: dict[str, dict]) -> None:
    """Name each curve beside its last point; a thin line leads to a name that had to move."""
    low, high = (math.log(limit) for limit in axes.get_ylim())
    ends = {name: (math.log(curve[-1][1]) - low) / (high - low) for name, curve in curves.items()}
    for name, height in spread_apart(ends).items():
        axes.annotate(
            name,
            xy=curves[name][-1],
            xytext=(1.04, height),
            textcoords="axes fraction",
            color=styles[name]["color"],
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "#bbbbbb",
                "linewidth": 0.6,
                "relpos": (0, 0.5),
            },
        )


def spread_apart(heights: dict[str, float]) -> dict[str, float]:
    """The same order, at least LABEL_SPACING apart; a crowd keeps its centre, within [0, 1]."""
    crowds = []  # (names from the lowest up, centre)
    for name in sorted(heights, key=heights.get):
        crowds.append(([name], heights[name]))
        while len(crowds) > 1 and _touch(*crowds[-2:]):
            (upper, upper_centre), (lower, lower_centre) = crowds.pop(), crowds.pop()
            names = lower + upper
            centre = (lower_centre * len(lower) + upper_centre * len(upper)) / len(names)
            crowds.append((names, min(centre, 1.0 - _half_height(names))))
    return {
        name: centre - _half_height(names) + LABEL_SPACING * (i + 0.5)
        for names, centre in crowds
        for i, name in enumerate(names)
    }


def _touch(lower: tuple[list[str], float], upper: tuple[list[str], float]) -> bool:
    return upper[1] - lower[1] < _half_height(lower[0]) + _half_height(upper[0])


def _half_height(names: list[str]) -> float:
    return LABEL_SPACING * len(names) / 2
