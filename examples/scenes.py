"""Images of one or two shapes with known boxes, for `locate_shapes.py`."""

import random
from typing import NamedTuple

from PIL import Image, ImageDraw

from shapes import EVERY_SHAPE, FINE, SIZE, SIZES, Shape, draw_shape


class Scene(NamedTuple):
    """An image, its shapes from left to right, and their boxes (x0, y0, x1, y1) in [0, 1]."""

    image: Image.Image
    shapes: list[Shape]
    boxes: list[tuple[float, float, float, float]]

    @property
    def caption(self) -> str:
        return " and ".join(f"a {s.size} {s.colour} {s.form}" for s in self.shapes)

    @property
    def names(self) -> list[str]:
        """The name of each shape by its colour, which no other shape has, and form."""
        return [f"a {shape.colour} {shape.form}" for shape in self.shapes]


def draw_scene(chance: random.Random) -> Scene:
    """Draw one or two shapes of different colours on a dark background, without overlap."""
    places: list[tuple[Shape, float, float]] = []
    shapes = [chance.choice(EVERY_SHAPE)]
    if chance.random() < 0.5:
        shapes.append(chance.choice([s for s in EVERY_SHAPE if s.colour != shapes[0].colour]))
    while len(places) < len(shapes):
        shape = shapes[len(places)]
        reach = _reach(shape)
        x, y = (chance.uniform(reach, 1 - reach) for _ in range(2))
        if all(max(abs(x - u), abs(y - v)) > reach + _reach(s) for s, u, v in places):
            places.append((shape, x, y))
        elif chance.random() < 0.02:  # there may be no room: start again
            places.clear()
    places.sort(key=lambda place: place[1])
    side, shade = SIZE * FINE, chance.randrange(10, 60)
    image = Image.new("RGB", (side, side), (shade,) * 3)
    canvas, boxes = ImageDraw.Draw(image), []
    for shape, x, y in places:
        box = draw_shape(canvas, shape, x * side, y * side, side, chance)
        boxes.append(tuple(min(max(edge / side, 0.0), 1.0) for edge in box))
    return Scene(image.reduce(FINE), [shape for shape, *_ in places], boxes)


def _reach(shape: Shape) -> float:
    """Return the largest distance of a shape's edges from its centre, as a fraction of the side."""
    return 1.1 * SIZES[shape.size]
