"""Shows the loss against the batch size, in a sentence and in a figure."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fastclip.atomic_file import replacing
from fastclip.batch_curve import BatchCurve
from fastclip.drawing import BLUE, INK, LINE, MUTED, new_figure

OPACITIES = (0.55, 0.45, 0.35, 0.25, 0.18)  # of curves before the newest, the latest first


def sentence(step: int, curve: BatchCurve) -> str:
    """Describe a curve in one line.

    Example:
        "batch curve of step 400, loss by batch size: 0.11 at 2, 0.24 at 4, 0.47 at 8, 0.62 at 12;
        from 4 to 8 pairs it rises by 0.23; left out, as they fill no batch: 4 pairs at 8"
    """
    sizes, losses = curve.batch_sizes, curve.losses.tolist()
    points = ", ".join(f"{loss:.4g} at {n:,}" for n, loss in zip(sizes, losses, strict=True))
    text = f"batch curve of step {step}, loss by batch size: {points}"
    if len(sizes) > 1:
        text += f"; {_last_rise(curve)}"
    left_out = [f"{num:,} pairs at {size:,}"
                for size, num in zip(sizes, curve.pairs_left_out, strict=True) if num]  # fmt: skip
    return f"{text}; left out, as they fill no batch: {', '.join(left_out)}" if left_out else text


def curve_figure(path: str | os.PathLike, curves: Mapping[int, BatchCurve]) -> None:
    """Draw the newest curve and some earlier ones, and write a PNG.

    A curve that is flat at its right end means that a larger batch changes little. The dotted line
    is the loss of a model that knows nothing, the logarithm of the batch size.

    Args:
        path: of the PNG; its directory exists.
        curves: by the number of their step, ascending; at least one.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        CannotWrite: the file cannot be written.
    """
    figure = new_figure(8, 5)
    *earlier, newest = curves
    curve = curves[newest]
    figure.text(0.1, 0.93, f"Loss by batch size at step {newest:,}", fontsize=13, color=INK,
                weight="bold")  # fmt: skip
    if len(curve.batch_sizes) > 1:
        figure.text(0.1, 0.875, f"{_last_rise(curve)}; a flat end means that a larger batch "
                    "changes little", color=MUTED, fontsize=9.5)  # fmt: skip
    axes = figure.add_axes((0.1, 0.13, 0.76, 0.70))
    sizes, losses = curve.batch_sizes, curve.losses.tolist()
    axes.plot(
        sizes, losses, color=BLUE, linewidth=2, marker="o", markersize=5, clip_on=False, zorder=3
    )
    chance = [math.log(size) for size in sizes]
    axes.plot(sizes, chance, color=MUTED, linewidth=1.2, linestyle=":")
    named = [(f"step {newest:,}", sizes[-1], losses[-1]), ("chance", sizes[-1], chance[-1])]
    for opacity, step in zip(OPACITIES, reversed(_spread(earlier)), strict=False):
        sizes, losses = curves[step].batch_sizes, curves[step].losses.tolist()
        axes.plot(sizes, losses, color=BLUE, linewidth=1, alpha=opacity)
        named.append((f"step {step:,}", sizes[-1], losses[-1]))
    axes.set_ylim(0, max(height for *_, height in named) * 1.05 or 1)
    _name_ends(axes, named)
    axes.set_xscale("log", base=2)
    sizes = curve.batch_sizes
    # A last size that is little above a power of two takes its place on the axis.
    ticks = [size for size in sizes if size == sizes[-1] or size <= sizes[-1] / 1.3]
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axes.minorticks_off()
    axes.set_xlabel("batch size", color=MUTED)
    axes.set_ylabel("loss (nats)", color=MUTED)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[:].set_visible(False)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _last_rise(curve: BatchCurve) -> str:
    """Describe the rise at the last doubling of the batch size."""
    sizes, losses = curve.batch_sizes, curve.losses.tolist()
    last = len(sizes) - 1
    if last > 1 and sizes[last] != 2 * sizes[last - 1]:
        last -= 1
    rise = losses[last] - losses[last - 1]
    verb = "rises" if rise >= 0 else "falls"
    return f"from {sizes[last - 1]:,} to {sizes[last]:,} pairs it {verb} by {abs(rise):.2g}"


def _name_ends(axes: Any, named: Sequence[tuple[str, float, float]]) -> None:
    """Write names next to the right ends of lines, unless one would cover an earlier name."""
    taken: list[float] = []
    least = 0.045 * axes.get_ylim()[1]
    for name, x, y in named:
        if all(abs(y - other) >= least for other in taken):
            colour = MUTED if taken else BLUE
            axes.annotate(name, (x, y), xytext=(8, 0), textcoords="offset points", va="center",
                          fontsize=9, color=colour)  # fmt: skip
            taken.append(y)


def _spread(steps: list[int]) -> list[int]:
    """Return some of the steps, evenly spread, with the first among them."""
    num = min(len(OPACITIES), len(steps))
    return [steps[i * len(steps) // num] for i in range(num)]
