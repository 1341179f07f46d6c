"""Draw figures that consist of rows of images, each row under a title."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fastclip.drawing import INK, LINE, MUTED, new_figure

Row = tuple[str, Sequence[tuple[Path | Image.Image, str]]]  # a title; images with their texts


def save_gallery(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write rows of equally many images of one size, each with its title, as a PNG."""
    columns = max(len(images) for _, images in rows)
    opened = [
        (heading, [(_opened(source), text) for source, text in images]) for heading, images in rows
    ]
    first = opened[0][1][0][0]
    row_height = 1.55 * first.height / first.width + 0.55  # inches
    figure = new_figure(1.75 * columns + 0.4, row_height * len(rows) + 0.7)
    top = 1 - 0.75 / figure.get_figheight()
    figure.suptitle(title, x=0.02, y=0.99, ha="left", fontsize=13, color=INK, weight="bold")
    cells = figure.add_gridspec(
        len(rows), columns, left=0.02, right=0.98, top=top,
        bottom=0.25 / figure.get_figheight(), hspace=0.5 / (row_height - 0.5), wspace=0.15,
    )  # fmt: skip
    for number, (heading, images) in enumerate(opened):
        for place, (image, text) in enumerate(images):
            axes = figure.add_subplot(cells[number, place])
            axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(LINE)
            axes.set_xlabel(text, fontsize=8, color=MUTED)
            if place == 0:
                axes.set_title(heading, loc="left", fontsize=9.5, color=INK)
    figure.savefig(path)


def _opened(source: Path | Image.Image) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    with Image.open(source) as image:
        return image.convert("RGB")
