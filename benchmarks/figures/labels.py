"""Write names next to the last points of lines, instead of a legend."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_SPACING = 0.052  # of the height of the axes: about one line of text
Points = Mapping[str, tuple[float, float]]


def label_ends(axes: "Axes", ends: Points, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Name each line next to its last point; a thin line leads to a name that had to move.

    Args:
        axes: axes with both limits set, and with a logarithmic vertical axis.
        ends: the last point of each line, by its name.
        styles: the styles of the lines; names have the colour of their line.
    """
    low, high = (math.log(limit) for limit in axes.get_ylim())
    heights = {name: (math.log(y) - low) / (high - low) for name, (_, y) in ends.items()}
    for name, height in spread_apart(heights).items():
        axes.annotate(
            name,
            xy=ends[name],
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=styles[name]["color"],
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "#bbbbbb",
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkB": 4,
            },
        )


def spread_apart(heights: dict[str, float]) -> dict[str, float]:
    """Move heights LABEL_SPACING apart, in the same order, around their centre in [0, 1]."""
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
