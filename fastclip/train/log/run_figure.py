"""Draws a run in one figure from its results.jsonl: loss, learning rate, scale, recall, curve."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastclip.atomic_file import replacing
from fastclip.drawing import BLUE, GREEN, INK, LINE, MUTED, RED, new_figure

COLUMNS = 3
WIDTH, HEIGHT = 4.3, 3.1  # inches of a panel
COLOURS = (BLUE, GREEN, RED, MUTED)
Row = Mapping[str, Any]


class Line(NamedTuple):
    """A line of a panel: its name, and points of (step, value), ascending in the step."""

    name: str
    points: list[tuple[float, float]]


class Panel(NamedTuple):
    title: str
    lines: list[Line]
    unit: str = ""
    is_of_batches: bool = False  # the horizontal axis is the batch size, and not the step
    is_from_zero: bool = True  # otherwise the vertical axis shows the range of the values


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Return the panels that the lines of results.jsonl have numbers for.

    Args:
        rows: the lines in the order of epochs, with "epoch" and "global_step". Lines of earlier
            versions have no "train_curve", and its panels are left out.
    """
    found = [
        Panel("Loss", _losses(rows), "nats"),
        Panel("Learning rate", [Line("lr", _curve(rows, "lr"))]),
        Panel("Logit scale", [Line("scale", _curve(rows, "logit_scale"))],
              is_from_zero=False),
        Panel("Recall of retrieval", [
            Line(name, _metric(rows, key)) for name, key in (
                ("image to text R@1", "image_to_text_R@1"),
                ("text to image R@1", "text_to_image_R@1"),
                ("image to text R@5", "image_to_text_R@5"),
                ("text to image R@5", "text_to_image_R@5"),
            )
        ], "fraction found"),
        Panel("Zero-shot accuracy", [
            Line(key.removesuffix("-top1"), _metric(rows, key)) for key in _keys(rows, "-top1")
        ], "fraction right"),
        *_batch_curve(rows),
    ]  # fmt: skip
    with_points = [
        panel._replace(lines=[line for line in map(_finite, panel.lines) if line.points])
        for panel in found
    ]
    return [panel for panel in with_points if panel.lines]


def run_figure(path: str | os.PathLike, name: str, rows: Sequence[Row]) -> list[str]:
    """Draw the panels of a run and write a PNG.

    Args:
        path: of the PNG; its directory exists.
        name: of the run, for the title.
        rows: see `panels_of`.

    Returns:
        The titles of the panels that were drawn.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: there is nothing to draw.
        CannotWrite: the file cannot be written.
    """
    panels = panels_of(rows)
    if not panels:
        raise ValueError(f"{name} has no numbers to draw: it has not finished an epoch")
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = new_figure(WIDTH * columns, HEIGHT * lines + 0.6)
    epochs, steps = rows[-1]["epoch"], rows[-1].get("global_step", 0)
    figure.suptitle(f"{name}: {epochs:,} epochs, {steps:,} steps", color=INK, fontsize=12,
                    weight="bold", x=0.02, ha="left")  # fmt: skip
    for number, panel in enumerate(panels, 1):
        _draw(figure.add_subplot(lines, columns, number), panel)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return [panel.title for panel in panels]


def _draw(axes: Any, panel: Panel) -> None:
    for line, colour in zip(panel.lines, COLOURS, strict=False):
        xs, ys = zip(*line.points, strict=True)
        style = {"marker": "o", "markersize": 3} if len(xs) < 30 else {}
        axes.plot(xs, ys, color=colour, linewidth=1.6, label=line.name, **style)
    axes.set_title(panel.title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("batch size" if panel.is_of_batches else "step", color=MUTED, fontsize=8)
    axes.set_ylabel(panel.unit, color=MUTED, fontsize=8)
    if panel.is_of_batches:
        axes.set_xscale("log", base=2)
    if panel.is_from_zero:
        axes.set_ylim(*_limits([y for line in panel.lines for _, y in line.points]))
    if len(panel.lines) > 1:
        axes.legend(fontsize=7, frameon=False)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _finite(line: Line) -> Line:
    return line._replace(points=[(x, y) for x, y in line.points if math.isfinite(y)])


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return limits of an axis that include 0; losses such as dcl and infoloob may be negative."""
    lowest, highest = min(0.0, *values), max(0.0, *values)
    return (1.08 * lowest, 1.08 * highest) if lowest < highest else (0.0, 1.0)


def _losses(rows: Sequence[Row]) -> list[Line]:
    # If no step of an epoch was logged, there is only its mean.
    trained = _curve(rows, "loss") or _metric(rows, "train_loss")
    return [Line("training", trained), Line("validation", _metric(rows, "clip_val_loss"))]


def _curve(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """Return the points of the logged steps."""
    points: list[tuple[float, float]] = []
    for curve in (row["train_curve"] for row in rows if "train_curve" in row):
        points += zip(curve["step"], curve[name], strict=True)
    return [point for point in points if point[1] is not None]


def _metric(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """Return the points of the epochs that have this metric."""
    return [(row["global_step"], row[key]) for row in rows if key in row]


def _keys(rows: Sequence[Row], end: str) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row if key.endswith(end)))


def _batch_curve(rows: Sequence[Row]) -> list[Panel]:
    """Return a panel with the newest batch curve, if there is any."""
    curves = [row["batch_curve"] for row in rows if "batch_curve" in row]
    if not curves:
        return []
    sizes, losses = curves[-1]["batch_sizes"], curves[-1]["losses"]
    lines = [
        Line("loss", list(zip(sizes, losses, strict=True))),
        Line("chance", [(size, math.log(size)) for size in sizes]),
    ]
    step = curves[-1]["global_step"]
    return [Panel(f"Loss by batch size at step {step:,}", lines, "nats", is_of_batches=True)]
