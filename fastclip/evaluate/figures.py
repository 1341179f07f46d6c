"""A figure that compares zero-shot classification with linear probes on k images of each class.

Source of the comparison: Radford et al. 2021, arXiv:2103.00020, figure 6.
"""

import os
from statistics import mean

from fastclip.drawing import BLUE, GREEN, INK, LINE, MUTED, new_figure
from fastclip.evaluate.probe.few_shot import FewShot
from fastclip.evaluate.probe.result import LinearProbe
from fastclip.evaluate.scores.classified import Classified

ZERO_SHOT, FEW_SHOT, FULL_PROBE = "#8250df", BLUE, GREEN


def probe_figure(
    path: str | os.PathLike,
    *,
    zero_shot: Classified,
    few_shot: FewShot,
    full_probe: LinearProbe,
    title: str = "Zero-shot against linear probes",
) -> None:
    """Draw a PNG of top-1 accuracies on the same test images: zero-shot, few-shot and full probe.

    The band around zero-shot and the bars of the full probe are 95 % intervals over test images.
    Each point is one seed of a few-shot probe with k images of each class; the line joins the means
    over seeds.

    Args:
        path: the PNG, in a directory that exists.
        zero_shot: the result of `fastclip.evaluate.zero_shot`.
        few_shot: the result of `fastclip.evaluate.few_shot`.
        full_probe: the result of `fastclip.evaluate.linear_probe`.
        title: the first line of the figure; the line below says how many images of each class
            zero-shot is worth.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: the three results have different numbers of test images.
    """
    tested = {
        "zero_shot": len(zero_shot.correct),
        "few_shot": len(few_shot.probes[0].probe.correct),
        "full_probe": len(full_probe.correct),
    }
    if len(set(tested.values())) > 1:
        counts = ", ".join(f"{name} of {num:,}" for name, num in tested.items())
        raise ValueError(f"the three results must have the same test images, got {counts}")
    figure = new_figure(9, 5.4)
    figure.text(0.095, 0.93, title, fontsize=13, color=INK, weight="bold")
    worth = worth_in_images(zero_shot.metrics["acc1"], few_shot)
    figure.text(0.095, 0.875, f"{worth}; {tested['zero_shot']:,} test images", color=MUTED)
    axes = figure.add_axes((0.095, 0.14, 0.80, 0.70))
    shots = few_shot.shots
    end = 2 * shots[-1]  # where the probe with all images stands
    _draw_zero_shot(axes, zero_shot)
    _draw_few_shot(axes, few_shot)
    _draw_full_probe(axes, full_probe, end)
    axes.set_xscale("log", base=2)
    axes.set_xlim(shots[0] / 1.25, end * 1.4)
    axes.set_xticks([*shots, end], [*map(str, shots), f"all\n({full_probe.num_train:,} in total)"])
    axes.minorticks_off()
    axes.set_xlabel("training images of each class", color=MUTED)
    axes.set_ylabel("top-1 accuracy", color=MUTED)
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path)


def worth_in_images(accuracy: float, few_shot: FewShot) -> str:
    """Return a phrase: how many images of each class a probe needs to overtake zero-shot.

    The means over seeds are compared with the zero-shot accuracy.

    Example:
        "zero-shot is worth 4 to 8 images of each class"
    """
    shots = few_shot.shots
    ahead = [k for k in shots if mean(few_shot.values(k)) > accuracy]
    if not ahead:
        amount = f"at least {shots[-1]}"
    elif ahead[0] == shots[0]:
        amount = f"fewer than {shots[0]}"
    else:
        amount = f"{max(k for k in shots if k < ahead[0])} to {ahead[0]}"
    plural = "" if amount.endswith(" 1") else "s"
    return f"zero-shot is worth {amount} image{plural} of each class"


def _draw_zero_shot(axes, found: Classified) -> None:
    value = found.metrics["acc1"]
    axes.axhspan(*found.intervals["acc1"], color=ZERO_SHOT, alpha=0.12, linewidth=0)
    axes.axhline(value, color=ZERO_SHOT, linewidth=1.6, linestyle=(0, (5, 3)))
    axes.annotate(
        f"zero-shot\n{value:.1%}", (1, value), xycoords=("axes fraction", "data"), xytext=(6, 0),
        textcoords="offset points", va="center", fontsize=9.5, color=ZERO_SHOT, weight="bold",
    )  # fmt: skip


def _draw_few_shot(axes, few_shot: FewShot) -> None:
    means = []
    for shots in few_shot.shots:
        values = few_shot.values(shots)
        axes.plot([shots] * len(values), values, "o", color=FEW_SHOT, alpha=0.35, markersize=4.5)
        means.append(mean(values))
    seeds = "1 draw" if len(values) == 1 else f"mean of {len(values)} draws"
    axes.plot(
        few_shot.shots, means, color=FEW_SHOT, linewidth=1.8, marker="o", markersize=6,
        label=f"probe with this number of images, {seeds}",
    )  # fmt: skip
    for shots, value in zip(few_shot.shots, means, strict=True):
        axes.annotate(
            f"{value:.1%}", (shots, value), xytext=(7, -13), textcoords="offset points",
            fontsize=9, color=FEW_SHOT,
        )  # fmt: skip
    axes.legend(loc="lower right", frameon=False, labelcolor=FEW_SHOT, fontsize=9.5)


def _draw_full_probe(axes, probe: LinearProbe, end: float) -> None:
    value, interval = probe.metrics["lp_acc1"], probe.intervals["lp_acc1"]
    axes.errorbar(
        [end], [value], [[value - interval.low], [interval.high - value]], fmt="D",
        color=FULL_PROBE, markersize=7, capsize=4, linewidth=1.6,
    )  # fmt: skip
    axes.annotate(
        f"probe with all\n{value:.1%}", (end, interval.high), xytext=(0, 5), ha="center",
        textcoords="offset points", fontsize=9.5, color=FULL_PROBE, weight="bold",
    )  # fmt: skip
