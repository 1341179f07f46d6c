"""Check how often search wrongly says that a result stands out from chance.

Search promises that, of searches without a match, at most one in twenty has a result that stands
out. This example removes some kinds of things from a corpus and searches for captions of all kinds,
in forty corpora of each world: digits, digits in a place, colours, forms in a colour. It compares
two estimates of what chance gives: the z of the best score under a normal distribution, and the
best matches of other captions, which describe other kinds that were removed.

    python examples/calibration_of_search.py

It takes about twenty seconds with the model of `fastclip demo`, which is trained first if there is
none (two minutes), and half a minute more the first time, when a small CLIP of shapes is trained.
The figure is examples-output/calibration_of_search.png.

With the small models, other captions are a good judge: something stands out in 2 to 5 % of searches
without a match if there are captions of twenty kinds, in 6 to 8 % if there are only three or four
kinds, and in 79 to 100 % of searches with a match. But z is no judge here: by z nothing stands out,
with or without a match. The cosines of a model of so few words deviate by 0.26 to 0.40, and none is
above 1, so z stays below 4, the limit for standing out. In any model, frequent things cannot stand
out by z: if a fraction f of a corpus is equally near, z is at most sqrt((1 - f) / f).
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from digits import WHERE, digits_model, features_of_images, features_of_texts
from fastclip.data.digits.grids import CELL_NAMES, DigitGrids
from fastclip.data.digits.images import DIGIT_WORDS, load_digits, split_by_image
from fastclip.drawing import BLUE, GREEN, INK, LINE, MUTED, new_figure
from fastclip.embeddings.moments import Moments
from fastclip.models.inference import InferenceModel
from fastclip.search.calibration import LIMIT, CaptionNull, Normal
from fastclip.search.exact import search
from shapes import COLOURS, EVERY_SHAPE, FORMS, STEPS, render, shapes_model
from small_clip import arguments

CORPORA, NUM_DIGITS, NUM_SHAPES = 40, 8000, 3000  # per world; and images before kinds are removed
OF_NULL, ABSENT = 0.4, 0.15  # fractions of the kinds that are removed


class World(NamedTuple):
    """Vectors of images, the kinds of things that each shows, and the captions of each kind."""

    name: str
    ready: InferenceModel
    vectors: np.ndarray  # (n, D)
    shown: list[set[str]]  # n
    captions: dict[str, list[str]]


class Chances(NamedTuple):
    """The estimated number of chance results for each search, without and with a match."""

    absent: list[float]
    present: list[float]

    def found(self, limit: float) -> tuple[float, float]:
        """Return how often something stands out, in searches without a match and with one."""
        return tuple(float(np.mean(np.array(part) < limit)) for part in self)


def worlds_of_digits(ready: InferenceModel) -> Iterator[World]:
    """Yield worlds of grids of up to four digits; a kind is a digit, or a digit in a place."""
    grids = DigitGrids(split_by_image(load_digits())[0])
    pairs = grids.draw(NUM_DIGITS, torch.Generator().manual_seed(0))
    vectors = features_of_images(ready, pairs.images).numpy()
    places = [set(caption.split(", ")) for caption in pairs.captions]
    digits = [{phrase.split()[-1] for phrase in phrases} for phrases in places]
    of_digit = {word: [f"{cell} {word}" for cell in CELL_NAMES] for word in DIGIT_WORDS}
    yield World("10 digits", ready, vectors, digits, of_digit)
    of_place = {phrase: [phrase] for phrases in of_digit.values() for phrase in phrases}
    yield World("60 digits in a place", ready, vectors, places, of_place)


def worlds_of_shapes(ready: InferenceModel) -> Iterator[World]:
    """Yield worlds of single shapes; a kind is a colour, or a form in a colour."""
    chance = random.Random(0)
    shapes = chance.choices(EVERY_SHAPE, k=NUM_SHAPES)
    pixels = torch.stack([ready.transform(render(shape, chance)) for shape in shapes])
    vectors = features_of_images(ready, pixels).numpy()
    of_colour: dict[str, list[str]] = {colour: [f"something {colour}"] for colour in COLOURS}
    of_form: dict[str, list[str]] = {}
    for colour, form in product(COLOURS, FORMS):
        said = [f"{size}{colour} {form}" for size in ("a ", "a small ", "a large ")]
        of_colour[colour] += said
        of_form[f"{colour} {form}"] = said
    yield World("8 colours", ready, vectors, [{shape.colour} for shape in shapes], of_colour)
    forms = [{f"{shape.colour} {shape.form}"} for shape in shapes]
    yield World("48 forms in a colour", ready, vectors, forms, of_form)


def judged(world: World) -> dict[str, Chances]:
    """Remove kinds and search for all, several times; return the chances by both estimates."""
    chances = {"z": Chances([], []), "captions": Chances([], [])}
    for seed in range(CORPORA):
        kinds = random.Random(seed).sample(list(world.captions), len(world.captions))
        of_null, absent = (round(part * len(kinds)) for part in (OF_NULL, OF_NULL + ABSENT))
        parts = (kinds[of_null:absent], kinds[absent:], kinds[:of_null])  # absent, present, null
        queries = [
            features_of_texts(world.ready, [t for kind in part for t in world.captions[kind]])
            for part in parts
        ]
        gone = set(kinds[:absent])
        images = world.vectors[[not shown & gone for shown in world.shown]]
        null, normal = CaptionNull.of(queries[2].numpy(), images), Normal(Moments.of(images))
        for number in (0, 1):
            best = search(queries[number].numpy(), images, top=1).scores
            for query, score in zip(queries[number].numpy(), best, strict=True):
                chances["z"][number].append(normal.expected_hits(normal.z(query, score))[0])
                chances["captions"][number].append(null.p_values(score)[0])
    return chances


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, tuple[float, float]]]:
    args = arguments(__doc__, argv, steps=STEPS, checkpoint=f"of the digits, {WHERE}")
    of_digits = digits_model(args)
    of_shapes = shapes_model(argparse.Namespace(**vars(args) | {"checkpoint": None}))
    figure, rates = new_figure(11, 8), {}
    figure.text(0.06, 0.96, "Searches in which something stands out from chance", fontsize=13,
        color=INK, weight="bold")  # fmt: skip
    cells = figure.add_gridspec(2, 2, left=0.06, right=0.98, top=0.89, bottom=0.07, hspace=0.35)
    print(f"searches in which something stands out (at most {LIMIT:.0%} promised without a match)")
    for cell, world in zip(
        cells, [*worlds_of_digits(of_digits), *worlds_of_shapes(of_shapes)], strict=True
    ):
        chances = judged(world)
        rates[world.name] = {null: chances[null].found(LIMIT) for null in chances}
        for null, (absent, present) in rates[world.name].items():
            num = [len(part) for part in chances[null]]
            print(f"{world.name:<22}by {null:<10}absent {absent:6.1%} of {num[0]:<6}"
                f"present {present:6.1%} of {num[1]}")  # fmt: skip
        _draw(figure.add_subplot(cell), world.name, chances)
    path = args.output / "calibration_of_search.png"
    figure.savefig(path)
    print(f"wrote {path}")
    return rates


def _draw(axes, name: str, chances: dict[str, Chances]) -> None:
    limits = np.geomspace(0.02, 1, 60)
    axes.plot(limits, limits, color=MUTED, linestyle=":", label="promised without a match")
    for null, colour in (("z", GREEN), ("captions", BLUE)):
        absent, present = zip(*(chances[null].found(limit) for limit in limits), strict=True)
        axes.plot(limits, present, color=colour, label=f"with a match, by {null}")
        axes.plot(limits, absent, color=colour, linestyle="--", label=f"without, by {null}")
    axes.axvline(LIMIT, color=LINE)
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    axes.set_title(f"{name}, half of them absent", loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel("limit of what chance gives", color=MUTED)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.tick_params(which="both", colors=MUTED, length=0)
    axes.spines[:].set_visible(False)
    axes.legend(fontsize=8, edgecolor="white", framealpha=1, loc="center left")


if __name__ == "__main__":
    main()
