"""Read words in images by zero-shot classification; the model was not trained on these words.

A small CLIP is trained on rendered strings of random letters; its text tower reads letters, not
words. It then reads real words by zero-shot classification, with a list of words as classes, in the
fonts of the training and in a new font.

    python examples/read_words.py

It takes about a minute, nearly all of it for the training, which is done once; the model is kept
in OUTPUT/words.pt. The figure is examples-output/read_words.png.

The small model finds which of 56 words of three to five letters an image shows, with each letter in
its own box as on a form (99 % are right). It cannot read a word that is not in the list, or running
text. In a new font it reads a quarter of the words. It hardly knows the order of letters, which its
training seldom requires: of twelve anagrams it reads a quarter.
"""

import functools
import random
from collections.abc import Sequence

import torch
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from digits import features_of_images, features_of_texts
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.evaluate import zero_shot
from gallery import save_gallery
from small_clip import arguments, new_model, trained_once

STEPS = 700
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BOX, LONGEST, PAIRS = 16, 5, 128  # pixels of a box; letters of a word; pairs of a batch
FONTS, OTHER_FONT = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono"), "STIXGeneral"
WORDS = (
    "apple bread chair dance eagle flute grape house index joker knife lemon mouse night ocean "
    "piano queen river sugar table uncle voice water yacht zebra bird cake door fish goat hand "
    "iron jazz king lamp moon nest oven pond rain ship tree vase wolf yard bus cat dog egg fox "
    "hat ink jar key log map"
).split()
ANAGRAMS = "stop spot post tops pots opts stale least steal tales slate teals".split()


def letter_boxes(font_name: str) -> dict[str, Image.Image]:
    """Render each letter in a box, bright on dark."""
    font = ImageFont.truetype(findfont(FontProperties(family=font_name)), 15)
    boxes = {}
    for letter in LETTERS:
        boxes[letter] = Image.new("RGB", (BOX, BOX), (20, 20, 30))
        pen = ImageDraw.Draw(boxes[letter])
        pen.text((BOX / 2, 12), letter, font=font, fill=(235, 235, 220), anchor="ms")
    return boxes


def render(word: str, boxes: dict[str, Image.Image], chance: random.Random) -> Image.Image:
    """Write a word into the boxes of a line, with letters slightly displaced."""
    image = Image.new("RGB", (BOX * LONGEST, BOX), (20, 20, 30))
    for place, letter in enumerate(word):
        image.paste(boxes[letter], (BOX * place + chance.randint(-1, 1), chance.randint(-1, 1)))
    return image


def spelled(word: str) -> str:
    """Return a word letter by letter, as the tokenizer takes it."""
    return " ".join(word)


def draw_pairs(ready, fonts: list[dict], chance: random.Random) -> tuple[Tensor, list[str]]:
    """Draw different strings of random letters that are not words of the lists."""
    length = chance.choices((1, 2, 3, 4, 5), (3, 2, 1, 1, 1))[0]
    strings: dict[str, None] = {}
    while len(strings) < min(PAIRS, len(LETTERS) ** length):
        string = "".join(chance.choices(LETTERS, k=length))
        if string not in WORDS and string not in ANAGRAMS:
            strings[string] = None
    images = [render(string, chance.choice(fonts), chance) for string in strings]
    return torch.stack([ready.transform(image) for image in images]), [*map(spelled, strings)]


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = arguments(__doc__, argv, steps=STEPS, checkpoint="OUTPUT/words.pt")
    tokenizer = WordTokenizer(LETTERS, LONGEST + 2)
    ready = new_model(tokenizer, (BOX, BOX * LONGEST), patch_size=BOX)
    fonts = [letter_boxes(name) for name in FONTS]
    trained_once(args, "words", ready, lambda: functools.partial(draw_pairs, ready, fonts), STEPS)

    chance, accuracies, rows = random.Random(9), {}, []
    for title, words, font in (
        (f"{len(WORDS)} words", WORDS, fonts[0]),
        (f"{len(WORDS)} words, another font", WORDS, letter_boxes(OTHER_FONT)),
        (f"{len(ANAGRAMS)} anagrams", ANAGRAMS, fonts[0]),
    ):
        classifier = features_of_texts(ready, [*map(spelled, words)]).T
        shown = [(word, render(word, font, chance)) for word in words for _ in range(5)]
        features = features_of_images(ready, torch.stack([ready.transform(i) for _, i in shown]))
        labels = [words.index(word) for word, _ in shown]
        accuracies[title] = zero_shot(features, classifier, labels).metrics["acc1"]
        print(f"{title}: {accuracies[title]:.1%} are right, by chance {1 / len(words):.1%}")
        read = (features @ classifier).argmax(1).tolist()
        some = [(image, f"read: {words[at]}") for (_, image), at in zip(shown, read, strict=True)]
        rows.append(
            (f"{title}: {accuracies[title]:.1%}", some[::27][:6] if words is WORDS else some[::10])
        )
    path = args.output / "read_words.png"
    save_gallery(path, "Words, read by choosing from a list", rows)
    print(f"wrote {path}")
    return accuracies


if __name__ == "__main__":
    main()
