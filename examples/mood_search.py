"""Search for images that have the mood of a sentence.

An image is a background with strokes of one hue, which are ordered or scattered. A small CLIP is
trained on such images with sentences that describe their mood, in words that have two or three
synonyms each. New sentences then search among 300 new images.

    python examples/mood_search.py

It takes about half a minute, most of it for the training, which is done once; the model is kept in
OUTPUT/moods.pt. The figure is examples-output/mood_search.png.

The small model matches words of mood with colours, brightness and movement, in any sentence that
has such words. It cannot understand the rest of a sentence: it knows 26 words of mood and a few
more. The program leaves out all other words and prints them, and refuses a sentence without a known
word. A model that was trained on the captions of the web needs no such list.
"""

import colorsys
import functools
import random
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from digits import features_of_images, features_of_texts
from fastclip.data.digits.tokenizer import WORD, WordTokenizer
from gallery import save_gallery
from small_clip import arguments, new_model, trained_once

STEPS, SIZE = 500, 32
HUES = {
    "fiery": (0.02, ["fiery", "angry", "burning"]),
    "sunny": (0.14, ["sunny", "cheerful", "golden"]),
    "fresh": (0.35, ["fresh", "hopeful", "green"]),
    "cold": (0.56, ["cold", "icy", "lonely"]),
    "dreamy": (0.78, ["dreamy", "tender", "mysterious"]),
}  # fmt: skip
LIGHTS = {"bright": (0.9, ["bright", "light"]), "dark": (0.4, ["dark", "gloomy", "black"])}
UNRESTS = {"calm": (0.0, ["calm", "quiet", "still"]), "wild": (1.0, ["wild", "stormy", "restless"])}
FRAMES = (
    "a {0} {1} evening , {2}", "{0} and {1} , a {2} morning", "{0} , {1} and {2} was the sea",
    "the night was {0} and {1} and {2}",
)  # fmt: skip
SENTENCES = (
    "I remember a lonely, icy and quiet evening in a dark house.",
    "Her angry voice was a burning, bright and restless thing.",
    "A cheerful day, golden and still, and so much light!",
    "He went into a mysterious, black and stormy night.",
)


class Mood(NamedTuple):
    """The mood of an image, in three words."""

    hue: str
    light: str
    unrest: str

    def sentence(self, chance: random.Random) -> str:
        tables = zip((HUES, LIGHTS, UNRESTS), self, strict=True)
        words = [chance.choice(table[name][1]) for table, name in tables]
        return chance.choice(FRAMES).format(*chance.sample(words, 3))


MOODS = [Mood(*names) for names in product(HUES, LIGHTS, UNRESTS)]


def render(mood: Mood, chance: random.Random) -> Image.Image:
    """Paint an image of a mood: background and strokes of one hue, bright or dark, still or not."""
    light, unrest = LIGHTS[mood.light][0], UNRESTS[mood.unrest][0]

    def colour(contrast: float) -> tuple[int, ...]:
        hue = (HUES[mood.hue][0] + chance.uniform(-0.03, 0.03)) % 1
        value = min(1.0, max(0.05, light + contrast))
        rgb = colorsys.hsv_to_rgb(hue, chance.uniform(0.6, 0.9), value)
        return tuple(round(255 * part) for part in rgb)

    image = Image.new("RGB", (SIZE, SIZE), colour(0.0))
    brush = ImageDraw.Draw(image)
    for _ in range(14 if unrest else 4):
        x, y = chance.uniform(0, SIZE), chance.uniform(0, SIZE)
        dx, dy = (chance.uniform(-14, 14), chance.uniform(-14, 14)) if unrest else (40, 0)
        contrast = chance.choice((-0.3, 0.3)) if unrest else chance.uniform(-0.06, 0.06)
        brush.line((x - dx, y - dy, x + dx, y + dy), colour(contrast), 2 if unrest else 4)
    return image


def draw_pairs(pool: dict, chance: random.Random) -> tuple[Tensor, list[str]]:
    """Draw one image and one sentence per mood, so that no sentence fits another image."""
    images = [chance.choice(pool[mood]) for mood in MOODS]
    return torch.stack(images), [mood.sentence(chance) for mood in MOODS]


def known_words(sentence: str, tokenizer: WordTokenizer) -> tuple[str, list[str]]:
    """Return the known words of a sentence as a sentence, and a list of its unknown words."""
    words = WORD.findall(sentence.lower())
    known = [word for word in words if word in tokenizer.words]
    if not known:
        raise ValueError(f"the model knows no word of {sentence!r}")
    return " ".join(known), [word for word in words if word not in known]


def main(argv: Sequence[str] | None = None) -> dict[str, int]:
    args = arguments(__doc__, argv, steps=STEPS, checkpoint="OUTPUT/moods.pt")
    chance = random.Random(2)
    tokenizer = WordTokenizer.learn([mood.sentence(chance) for mood in MOODS * 60], 16)
    ready = new_model(tokenizer, (SIZE, SIZE), patch_size=SIZE // 2)
    pool = {mood: [ready.transform(render(mood, chance)) for _ in range(60)] for mood in MOODS}
    trained_once(args, "moods", ready, lambda: functools.partial(draw_pairs, pool), STEPS)

    shown = [chance.choice(MOODS) for _ in range(300)]
    images = [render(mood, chance) for mood in shown]
    features = features_of_images(ready, torch.stack([*map(ready.transform, images)]))
    rows, right = [], {}
    for sentence in SENTENCES:
        text, unknown = known_words(sentence, tokenizer)
        scores = features @ features_of_texts(ready, [text])[0]
        best = scores.argsort(descending=True)[:6].tolist()
        said = {n for t in (HUES, LIGHTS, UNRESTS) for n, (_, own) in t.items()
                if set(own) & set(text.split())}  # fmt: skip
        right[sentence] = sum(said <= set(shown[number]) for number in best)
        print(f"{sentence}\n    {right[sentence]} of 6 images are {', '.join(sorted(said))}; "
            f"not known: {', '.join(unknown)}")  # fmt: skip
        rows.append((f"{sentence} ({right[sentence]} of 6)",
            [(images[number], " ".join(shown[number])) for number in best]))  # fmt: skip
    path = args.output / "mood_search.png"
    save_gallery(path, "Sentences, and the images nearest to them", rows)
    print(f"wrote {path}")
    return right


if __name__ == "__main__":
    main()
