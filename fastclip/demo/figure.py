"""The image of a run: its loss curve, and test images with the captions they retrieved."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from fastclip.data.digits.images import DIGIT_SIZE
from fastclip.drawing import BLUE, GREEN, INK, LINE, MUTED, RED, new_figure

CURVE, RIGHT, WRONG, CELL_LINE = BLUE, GREEN, RED, "#57606a"


class Retrieved(NamedTuple):
    """A test image, the caption that the model found nearest to it, which is drawn below the image,
    and its own caption."""

    image: Tensor  # (1, height, width) uint8
    caption: str
    own_caption: str


def save_figure(
    path: str | os.PathLike,
    losses: Sequence[float],
    batch_size: int,
    examples: Sequence[Retrieved],
    title: str,
) -> None:
    """Draw the loss curve next to up to six examples, and write a PNG.

    Args:
        path: the PNG, in a directory that exists.
        losses: one per step, in nats.
        batch_size: gives the loss of a model that guesses, ln(batch_size).
        examples: images and captions; phrases that are not in the image's own caption are marked.
        title: one line on top.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    figure = new_figure(13, 5.6)
    figure.suptitle(title, x=0.045, y=0.965, ha="left", fontsize=13, color=INK, weight="bold")
    curve, gallery = figure.add_gridspec(
        1, 2, width_ratios=(1, 1.6), wspace=0.12, left=0.045, right=0.985, top=0.85, bottom=0.14
    )
    _draw_curve(figure.add_subplot(curve), losses, batch_size)
    cells = gallery.subgridspec(2, 3, hspace=0.75, wspace=0.14)
    for cell, example in zip(cells, examples, strict=False):
        _draw_example(figure.add_subplot(cell), example)
    figure.savefig(path)


def _draw_curve(axes, losses: Sequence[float], batch_size: int) -> None:
    steps = range(1, len(losses) + 1)
    chance = math.log(batch_size)
    axes.plot(steps, losses, color=CURVE, linewidth=1.8)
    axes.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"chance, ln({batch_size:,}) = {chance:.2f}", (1, chance),
        xycoords=("axes fraction", "data"), xytext=(-4, 5), textcoords="offset points", ha="right",
        fontsize=9, color=MUTED,
    )  # fmt: skip
    axes.annotate(
        f"{losses[-1]:.2f}", (len(losses), losses[-1]), xytext=(0, 7),
        textcoords="offset points", ha="right", fontsize=10, color=CURVE, weight="bold",
    )  # fmt: skip
    axes.set_title("Contrastive loss", loc="left", fontsize=11, color=INK)
    axes.set_xlabel("step", color=MUTED)
    axes.set_ylim(0, 1.12 * max(chance, *losses))
    axes.margins(x=0.02)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[:].set_visible(False)


def _draw_example(axes, example: Retrieved) -> None:
    is_right = example.caption == example.own_caption
    color = RIGHT if is_right else WRONG
    _, height, width = example.image.shape
    axes.imshow(example.image[0].numpy(), cmap="gray", vmin=0, vmax=255)
    # Digits fill their cells; only lines between the cells separate neighbours.
    for y in range(DIGIT_SIZE, height, DIGIT_SIZE):
        axes.axhline(y - 0.5, color=CELL_LINE, linewidth=1)
    for x in range(DIGIT_SIZE, width, DIGIT_SIZE):
        axes.axvline(x - 0.5, color=CELL_LINE, linewidth=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=color, linewidth=2)
    verdict = "✓ its own caption" if is_right else "✗ another caption"
    axes.set_title(verdict, loc="left", fontsize=9, color=color, weight="bold", pad=4)
    missed = set(example.caption.split(", ")) - set(example.own_caption.split(", "))
    for line, phrase in enumerate(example.caption.split(", ")):
        axes.annotate(
            phrase, (0, 0), xycoords="axes fraction", xytext=(0, -6 - 13 * line),
            textcoords="offset points", va="top", fontsize=9,
            color=WRONG if phrase in missed else INK,
        )  # fmt: skip
