"""Draw the roofline: how close providers come to what the machine can do at their intensity.

    intensity     FLOPs of the floor (8 N^2 D of a step) over the bytes that operators move
    FLOP/s        the same FLOPs over the time
    roofs         the measured rate of a large matmul; the measured rate of a copy times intensity

`traffic.py` counts the bytes: traffic within a fused kernel is not seen, so that its point is at
the intensity of its inputs and gradients. A loss that keeps its logits multiplies less than the
floor, by a fourth at most, and may exceed the roof by a third.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastclip.benchmarks.figures.style import figure_of, logarithmic, styles_of
from fastclip.benchmarks.report import Condition
from fastclip.benchmarks.results import Results, Row
from fastclip.benchmarks.step import STEP
from fastclip.benchmarks.timing import floor_flops
from fastclip.drawing import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNITS = ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"))


class Roofs(NamedTuple):
    flops_per_second: float
    bytes_per_second: float

    @property
    def ridge(self) -> float:
        """The intensity, in FLOPs per byte, from which on the matmul is the roof."""
        return self.flops_per_second / self.bytes_per_second


class Point(NamedTuple):
    intensity: float  # FLOPs per byte
    rate: float  # FLOP/s
    low: float  # of the upper quartile of the time
    high: float
    N: int


def save_roofline(results: Results, condition: Condition, rows: list[Row], path: Path) -> bool:
    """Draw the roofline if ceilings and bytes were measured; return whether it was drawn."""
    points = points_of(rows)
    if not points or not results.ceilings:
        return False
    roofs = roofs_of(results, rows)
    unit, unit_name = next(
        ((x, name) for x, name in UNITS if roofs.flops_per_second >= x), UNITS[-1]
    )
    sizes = sorted({point.N for of_one in points.values() for point in of_one})
    note = (
        "Points are medians over rounds, bars their quartiles, numbers N. FLOPs are the 8 N²D of a "
        "forward and backward; bytes are what operators read and write, and only inputs and "
        "outputs for a fused kernel. The roofs were measured in the same run."
    )
    title = f"Roofline{f', N = {sizes[0]:,}' if len(sizes) == 1 else ''}: {condition}"
    with figure_of(results, title, note, path) as (_, axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        styles = styles_of([row.provider for row in rows], results.sources)
        for name, of_one in points.items():
            x, y, low, high, N = zip(*of_one, strict=True)
            bars = (
                [(rate - least) / unit for rate, least in zip(y, low, strict=True)],
                [(most - rate) / unit for rate, most in zip(y, high, strict=True)],
            )
            rates = [rate / unit for rate in y]
            axes.errorbar(
                x, rates, yerr=bars, capsize=2.5, elinewidth=0.8, label=name, **styles[name]
            )
            for at, rate, pairs in zip(x, rates, N, strict=True):
                if len(sizes) > 1 and pairs in (sizes[0], sizes[-1]):
                    axes.annotate(
                        f"{pairs:,}", (at, rate), xytext=(5, 0), textcoords="offset points",
                        fontsize=6, color=styles[name]["color"], va="center",
                    )  # fmt: skip
        _draw_roofs(axes, roofs, unit, unit_name, results.ceilings["dtype"])
        axes.set_xlabel("intensity, FLOPs per byte that operators move", fontsize=9)
        axes.set_ylabel(unit_name, fontsize=9)
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            logarithmic(axis, *limits)
        # Lines may end anywhere in this figure; names at its side would need lines across it.
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7.5, frameon=False)
    return True


def points_of(rows: list[Row]) -> dict[str, list[Point]]:
    """Return the points of each provider's steps, by its name, N ascending."""
    points = {}
    for row in sorted(rows, key=lambda row: row.case.N):
        if row.timing is not None and row.moved_bytes and row.what == STEP:
            flops = floor_flops(row.case.N, row.case.D)
            times = row.timing.seconds, row.timing.seconds_high, row.timing.seconds_low
            point = Point(flops / row.moved_bytes, *(flops / x for x in times), row.case.N)
            points.setdefault(row.provider, []).append(point)
    return points


def roofs_of(results: Results, rows: list[Row]) -> Roofs:
    """Return the best measured rates, because a busy machine is slower at times."""
    matmul, copy = (results.ceilings[name]["rate"] for name in ("matmul", "copy"))
    rates = (row.timing.matmul_flops_per_second for row in rows if row.timing is not None)
    return Roofs(max(matmul, *rates), copy)


def _draw_roofs(axes: "Axes", roofs: Roofs, unit: float, unit_name: str, dtype: str) -> None:
    (low, high), (bottom, highest) = axes.get_xlim(), axes.get_ylim()
    low, high = min(low, roofs.ridge / 3), max(1.3 * high, roofs.ridge * 3)
    top = roofs.flops_per_second / unit
    slope = roofs.bytes_per_second / unit
    axes.plot([low, roofs.ridge, high], [slope * low, top, top], color=INK, linewidth=1.2, zorder=2)
    axes.set_xlim(low, high)
    axes.set_ylim(min(bottom, slope * low), max(highest, 1.9 * top))
    axes.annotate(
        f"{dtype} matmul, {top:,.0f} {unit_name}", (high, top), xytext=(-2, 4),
        textcoords="offset points", ha="right", fontsize=7, color=INK,
    )  # fmt: skip
    axes.annotate(
        f"copy, {roofs.bytes_per_second / 1e9:,.0f} GB/s", (low, slope * low), xytext=(16, -1),
        textcoords="offset points", fontsize=7, color=INK, rotation_mode="anchor",
        rotation=45, transform_rotates_text=True,
    )  # fmt: skip
