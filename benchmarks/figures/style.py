"""The style of figures, readable on paper, in grey, and for colour-blind readers.

The colours are Okabe and Ito's, which readers with any kind of colour blindness can distinguish;
markers and dashes distinguish lines without colour. Our lines are filled and thick, other
libraries' hollow and thin, and users' functions black.
"""

import itertools
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastclip.benchmarks.results import Results
from fastclip.drawing import INK, LINE, MUTED, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#666666"
OURS = tuple(zip((BLUE, VERMILION, SKY, GREEN), "osDP", strict=True))
OTHERS = tuple(zip((ORANGE, PURPLE, GREY), "^vX", strict=True))
PEERS = tuple(itertools.product(("--", ":", "-."), OTHERS))
OWN = tuple(("#000000", marker) for marker in "*pd")
DPI = 220
NOTE_CHARACTERS = 125  # of a line at the foot


def styles_of(names: Iterable[str], own: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the arguments of matplotlib's `plot` for each line.

    Args:
        names: all providers of a condition, so that each looks the same in all figures.
        own: the providers that are users' functions.
    """
    own = set(own)
    cycles = {kind: itertools.cycle(of) for kind, of in (("own", OWN), ("ours", OURS))}
    peers, styles = itertools.cycle(PEERS), {}
    for name in dict.fromkeys(names):
        is_own = name in own
        if is_own or name.startswith("fastclip/"):
            color, marker = next(cycles["own" if is_own else "ours"])
            styles[name] = {
                "color": color, "marker": marker, "linewidth": 1.8, "markersize": 5, "zorder": 3
            }  # fmt: skip
        else:
            dash, (color, marker) = next(peers)
            styles[name] = {
                "color": color, "marker": marker, "linewidth": 1.2, "markersize": 5,
                "linestyle": dash, "markerfacecolor": "white",
            }  # fmt: skip
    return styles


@contextmanager
def figure_of(
    results: Results, title: str, note: str, path: Path
) -> Iterator[tuple["Figure", "Axes"]]:
    """Yield a figure with one pair of axes, and write it to `path` in the format of its suffix.

    Args:
        title: the text above the axes.
        note: explains points and bars; it is below the axes, next to the facts of the machine.
    """
    figure = new_figure(7.2, 4.6)
    foot = "\n".join([place_of(results), *textwrap.wrap(note, NOTE_CHARACTERS)])
    height = 0.012 + 0.03 * len(foot.splitlines())
    figure.set_layout_engine("constrained", rect=(0, height, 1, 1 - height))
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.grid(which="major", color=LINE, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    yield figure, axes
    figure.text(0.012, 0.012, foot, fontsize=6.5, color=MUTED, va="bottom", linespacing=1.4)
    # Text stays text in a PDF, so that a publisher's check of fonts passes.
    import matplotlib

    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
        figure.savefig(path, dpi=DPI)


def place_of(results: Results) -> str:
    """Return machine, threads, versions and date, in a line."""
    host = results.host
    threads = host.get("threads", "unknown")
    cpu = f"{host.get('cpu', 'unknown CPU')}, {threads} thread{'' if threads == 1 else 's'}"
    machine = host.get("gpu") or cpu
    commit = f" ({results.commit[:9]}{results.commit[40:]})" if results.commit else ""
    parts = [machine, f"torch {host.get('torch')}", f"fastclip {host.get('fastclip')}{commit}"]
    if "gpu" not in host and "load" in host:
        parts.append(f"load {host['load']} at the start")
    return " · ".join([*parts, results.date[:10]])


def logarithmic(axis: "Axis", low: float, high: float) -> None:
    """Set ticks at 1, 2, 5 of each decade, or only at decades if there are many; plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    few = high / low < 10**2.5
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if few else (1,), numticks=20))
    axis.set_minor_locator(LogLocator(10, subs=range(1, 10), numticks=200))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())
