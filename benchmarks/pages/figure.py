"""Draw the figure of the page on numerics: three ways to lose a gradient."""

from pathlib import Path

import torch

from fastclip.benchmarks.pages import rounding
from fastclip.drawing import BLUE, GREEN, INK, LINE, MUTED, RED, new_figure

BIN = 0.1  # of the decimal logarithm of 1 - p
BINS = torch.arange(-4.0, -0.4, BIN, dtype=torch.float64)


def save_rounding(path: Path) -> None:
    """Draw the figure as a PNG.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    figure = new_figure(12.5, 3.9)
    margins, subnormals, rounded = figure.subplots(
        1,
        3,
        gridspec_kw={"wspace": 0.3, "left": 0.055, "right": 0.985, "top": 0.84, "bottom": 0.16},
    )
    _draw_margins(margins)
    _draw_subnormals(subnormals)
    _draw_rounded(rounded)
    for axes in (margins, subnormals, rounded):
        axes.grid(color=LINE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
        axes.xaxis.label.set_size(9)
    figure.savefig(path)


def _draw_margins(axes) -> None:
    margins = list(range(1, 101))
    truth, ours, eager = zip(*map(rounding.losses_of_a_margin, margins), strict=True)
    axes.semilogy(margins, truth, color=MUTED, linewidth=5, alpha=0.35)
    axes.semilogy(margins, ours, color=BLUE, linewidth=1.5)
    found = [(m, value) for m, value in zip(margins, eager, strict=True) if value > 0]
    axes.semilogy(*zip(*found, strict=True), color=RED, linewidth=1.5)
    axes.plot(*found[-1], "o", color=RED, markersize=4)
    axes.annotate("float32, dense: exactly 0\nfrom here on", found[-1], (30, 1e-5), fontsize=8,
                  color=RED)  # fmt: skip
    axes.annotate("fastclip, float32, on the\ntruth (grey)", (60, 1e-26), (8, 1e-38), fontsize=8,
                  color=BLUE)  # fmt: skip
    axes.set_ylim(1e-45, 10)
    axes.set_title("1  A loss of two pairs", loc="left", fontsize=10)
    axes.set_xlabel("margin: the pair's logit less the other's")


def _draw_subnormals(axes) -> None:
    scales = list(range(60, 131, 2))
    for data, color, place in (("trained", GREEN, (68, 60)), ("random", MUTED, (104, 6))):
        percent = [100 * rounding.subnormal_fraction(s, data) for s in scales]
        axes.plot(scales, percent, color=color, linewidth=1.5)
        axes.text(*place, f"{data} embeddings", color=color, fontsize=8)
    axes.axvline(100, color=LINE, linewidth=1)
    axes.set_ylim(-3, 103)
    axes.set_title("2  Percent of probabilities below 1.2e-38", loc="left", fontsize=10)
    axes.set_xlabel("logit_scale (CLIP's limit is 100)")


def _draw_rounded(axes) -> None:
    for dtype, color, place in (
        (torch.bfloat16, RED, (1.3e-2, 30)), (torch.float16, BLUE, (1.1e-4, 12)),
    ):  # fmt: skip
        worst = [_worst_in_bin(dtype, start) for start in BINS]
        axes.loglog((10.0**BINS).tolist(), worst, color=color, linewidth=1.5)
        axes.text(*place, str(dtype).removeprefix("torch."), color=color, fontsize=8)
    axes.set_ylim(1e-1, 150)
    axes.set_title("3  Percent of error of p - 1, p rounded", loc="left", fontsize=10)
    axes.set_xlabel("1 - p: what the positive still lacks")


def _worst_in_bin(dtype: torch.dtype, start: float) -> float:
    """Return the largest error of 1 - p in [10^start, 10^(start + BIN)], in percent."""
    distances = torch.logspace(start, start + BIN, 25, dtype=torch.float64).tolist()
    return max(100 * rounding.error_of_rounded_probability(1 - d, dtype) for d in distances)
