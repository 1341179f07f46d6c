"""Pictures of coloured shapes, and a model that measures the colour and the shape of one."""

import colorsys
import math
import random
import re
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from fastclip.data.images import load_image
from fastclip.models.inference import InferenceModel
from fastclip.models.tower_precision import TowerPrecision

# Hues in turns, and how much of its bounding box a shape fills.
COLOURS = {
    "red": 0.0, "orange": 0.075, "yellow": 0.14, "green": 0.36, "teal": 0.49, "blue": 0.6,
    "purple": 0.75, "pink": 0.89,
}  # fmt: skip
SHAPES = {"square": 1.0, "circle": 0.785, "heart": 0.655, "triangle": 0.5, "star": 0.36}
WORDS = [*COLOURS, *SHAPES]
SIDE, FINE = 160, 4  # pixels of a picture; how many times finer it is drawn
GROUND = (244, 241, 234)


def draw(colour: str, shape: str, rng: random.Random) -> Image.Image:
    """A shape of some size, somewhere, in a shade of a colour."""
    side = SIDE * FINE
    size = rng.uniform(0.4, 0.66) * side
    left, top = (rng.uniform(0.1, 0.9) * (side - size) for _ in range(2))
    shade = colorsys.hsv_to_rgb(COLOURS[colour], rng.uniform(0.6, 0.85), rng.uniform(0.72, 0.92))
    image = Image.new("RGB", (side, side), GROUND)
    outline = [(left + x * size, top + y * size) for x, y in _outline(shape)]
    ImageDraw.Draw(image).polygon(outline, tuple(round(255 * c) for c in shade))
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def draw_shapes(folder: Path, num: int, seed: int = 0) -> None:
    """Write 0000.png and so on, each with a caption beside it."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(num):
        colour, shape = rng.choice(list(COLOURS)), rng.choice(list(SHAPES))
        draw(colour, shape, rng).save(folder / f"{number:04d}.png")
        (folder / f"{number:04d}.txt").write_text(f"a {colour} {shape}")


def shapes_model() -> InferenceModel:
    """A model of the words of `WORDS`; a colour and a shape together are more than their sum."""
    as_they_are = {"size": [SIDE, SIDE], "mean": [0.0] * 3, "std": [1.0] * 3}
    return InferenceModel(
        "colours-and-shapes", _Measure().eval(), _tokens, _pixels, as_they_are,
        TowerPrecision("fp32", torch.device("cpu")),
    )  # fmt: skip


class _Measure(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor | None, tokens: Tensor | None) -> tuple:
        texts = None
        if tokens is not None:
            counts = (tokens[:, :, None] == torch.arange(1, 1 + len(WORDS))).sum(1).float()
            texts = _features(counts[:, : len(COLOURS)], counts[:, len(COLOURS) :])
        found = None if images is None else torch.stack([_measured(image) for image in images])
        return found, texts, self.logit_scale.exp()


def _measured(image: Tensor) -> Tensor:
    ground = torch.tensor(GROUND)[:, None, None] / 255
    there = (image - ground).abs().amax(0) > 0.12
    if not there.any():
        return torch.full((len(WORDS) + len(COLOURS) * len(SHAPES),), 1e-3)
    rows, columns = there.nonzero().unbind(1)
    box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    hue = colorsys.rgb_to_hsv(*image[:, there].median(1).values.tolist())[0]
    hues, fills = torch.tensor([*COLOURS.values()]), torch.tensor([*SHAPES.values()])
    away = (hues - hue + 0.5) % 1 - 0.5
    colours = torch.exp(-((away / 0.04) ** 2))
    shapes = torch.exp(-(((fills - there.sum() / box) / 0.06) ** 2))
    return _features(colours[None], shapes[None])[0]


def _features(colours: Tensor, shapes: Tensor) -> Tensor:
    both = (colours[:, :, None] * shapes[:, None]).flatten(1)
    found = torch.cat([colours, shapes, 1.5 * both], 1) + 1e-3
    return nn.functional.normalize(found, dim=-1)


def _tokens(texts: list[str]) -> Tensor:
    numbers = [[WORDS.index(w) + 1 for w in _words(text) if w in WORDS][:8] for text in texts]
    return torch.tensor([row + [0] * (8 - len(row)) for row in numbers])


def _words(text: str) -> list[str]:
    return [word.rstrip("s") for word in re.findall(r"[a-z]+", text.lower())]


def _pixels(source: object) -> Tensor:
    image = source if isinstance(source, Image.Image) else load_image(source)
    image = image.convert("RGB").resize((SIDE, SIDE))
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(
        SIDE, SIDE, 3
    ).permute(2, 0, 1).contiguous()  # fmt: skip


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners in a box from 0 to 1, which they touch on all sides."""
    turns = [2 * math.pi * step / 90 for step in range(90)]
    if shape == "square":
        return [(0, 0), (1, 0), (1, 1), (0, 1)]
    if shape == "triangle":
        return [(0.5, 0), (1, 1), (0, 1)]
    if shape == "circle":
        corners = [(math.cos(t), math.sin(t)) for t in turns]
    elif shape == "heart":
        corners = [(16 * math.sin(t) ** 3, 5 * math.cos(2 * t) + 2 * math.cos(3 * t)
                    + math.cos(4 * t) - 13 * math.cos(t)) for t in turns]  # fmt: skip
    else:
        radii = [(1.0 if step % 2 == 0 else 0.46, math.pi * step / 5) for step in range(10)]
        corners = [(r * math.sin(t), -r * math.cos(t)) for r, t in radii]
    xs, ys = zip(*corners, strict=True)
    return [
        ((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys)))
        for x, y in corners
    ]
