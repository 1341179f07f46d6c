"""Images of coloured shapes with captions, and a small CLIP that is trained on them.

The model knows only the words below. It is trained on images that are drawn at random during the
training, which takes half a minute.
"""

import argparse
import functools
import math
import random
from itertools import product
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.models.inference import InferenceModel
from small_clip import Draw, new_model, trained_once

WHERE = "OUTPUT/shapes.pt, if an earlier run wrote it"
SIZE, FINE = 32, 4  # pixels of an image; how many times finer it is drawn
STEPS = 900
COLOURS = {
    "red": (220, 40, 40), "green": (50, 180, 70), "blue": (50, 90, 230),
    "yellow": (235, 210, 50), "purple": (160, 60, 190), "white": (235, 235, 235),
    "orange": (240, 130, 20), "cyan": (60, 210, 220),
}  # fmt: skip
FORMS = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = {"small": 0.14, "large": 0.21}  # radius as a fraction of the image's side
CENTERS = (0.25, 0.75)  # the range of a shape's centre, in both directions
# The templates of captions, with their relative frequencies. All captions of a batch have the same
# template, and no two are equal, so that no caption fits the image of another.
TEMPLATES = {
    "a {size} {colour} {form}": 4, "a {colour} {form}": 2, "a {form}": 1, "something {colour}": 1,
}  # fmt: skip


class Shape(NamedTuple):
    """One shape, in words."""

    colour: str
    form: str
    size: str

    @property
    def captions(self) -> list[str]:
        """Return all captions that fit the shape, the most detailed first."""
        return [template.format(**self._asdict()) for template in TEMPLATES]


EVERY_SHAPE = [Shape(*words) for words in product(COLOURS, FORMS, SIZES)]


def render(shape: Shape, chance: random.Random) -> Image.Image:
    """Draw a shape on a dark background; shades, place and radius vary a little."""
    side = SIZE * FINE
    shade = chance.randrange(10, 60)
    image = Image.new("RGB", (side, side), (shade,) * 3)
    x, y = ((chance.choice(CENTERS) + chance.uniform(-0.03, 0.03)) * side for _ in range(2))
    draw_shape(ImageDraw.Draw(image), shape, x, y, side, chance)
    return image.reduce(FINE)


def draw_shape(
    canvas: ImageDraw.ImageDraw, shape: Shape, x: float, y: float, unit: float,
    chance: random.Random,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Draw a shape at a place; shade and radius vary a little.

    Args:
        x, y: the centre of the shape in pixels.
        unit: the length in pixels of which the radii in `SIZES` are fractions.

    Returns:
        The left, upper, right and lower edge of the shape in pixels.
    """
    radius = SIZES[shape.size] * chance.uniform(0.9, 1.1) * unit
    colour = tuple(round(part * chance.uniform(0.85, 1.0)) for part in COLOURS[shape.colour])
    return _draw(canvas, shape.form, x, y, radius, colour)


def draw_pairs(pool: dict[Shape, list[Tensor]], chance: random.Random) -> tuple[Tensor, list[str]]:
    """Draw images from a pool, with captions of which no two are equal."""
    template = chance.choices(list(TEMPLATES), TEMPLATES.values())[0]
    shuffled = chance.sample(EVERY_SHAPE, len(EVERY_SHAPE))
    by_caption = {template.format(**shape._asdict()): shape for shape in shuffled}
    captions = list(by_caption)
    return torch.stack([chance.choice(pool[by_caption[c]]) for c in captions]), captions


def shapes_model(args: argparse.Namespace) -> InferenceModel:
    """Return the model, and train it if there is no file of it: see `trained_once`."""
    tokenizer = WordTokenizer.learn(text for shape in EVERY_SHAPE for text in shape.captions)
    ready = new_model(tokenizer, (SIZE, SIZE), patch_size=SIZE // 2)

    def drawing() -> Draw:
        chance = random.Random(0)
        pool = {s: [ready.transform(render(s, chance)) for _ in range(40)] for s in EVERY_SHAPE}
        return functools.partial(draw_pairs, pool)

    return trained_once(args, "shapes", ready, drawing, STEPS)


def _draw(
    canvas: ImageDraw.ImageDraw, form: str, x: float, y: float, r: float, colour
) -> tuple[float, float, float, float]:
    box = (x - r, y - r, x + r, y + r)
    if form == "circle":
        canvas.ellipse(box, fill=colour)
    elif form == "ring":
        canvas.ellipse(box, outline=colour, width=round(0.45 * r))
    elif form == "square":
        canvas.rectangle(box, fill=colour)
    elif form == "cross":
        canvas.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=colour)
        canvas.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=colour)
    else:
        points, inner = {"triangle": (3, 0.5), "star": (5, 0.4)}[form]
        corners = [
            (x + length * math.sin(angle), y - length * math.cos(angle))
            for i in range(2 * points)
            for angle, length in [(math.pi * i / points, r if i % 2 == 0 else inner * r)]
        ]
        canvas.polygon(corners, fill=colour)
        (left, right), (upper, lower) = ((min(c), max(c)) for c in zip(*corners, strict=True))
        box = (left, upper, right, lower)
    return box
