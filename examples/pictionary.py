"""Play Pictionary: digits are drawn stroke by stroke, and after each stroke the model guesses.

Each drawing is scored against ten prompts, and the figure shows how sure the model is of each word
as the drawing grows. The drawings have 32 x 32 pixels and are reduced to 8 x 8, like the
handwriting that the model was trained on.

    python examples/pictionary.py

It takes a few seconds with the model of `fastclip demo`, which is trained first if there is none
(two minutes). The figure is examples-output/pictionary.png.

The small model names a digit that is drawn like its training data. It cannot say that it does not
know: it must answer with one of the ten words, so even half a drawing is some digit, and its
probabilities are about these ten words and not about everything that one can draw.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from digits import WHERE, digits_model, features_of_images, features_of_texts
from fastclip.data.digits.grids import PROMPTS, place_alone
from fastclip.data.digits.images import DIGIT_WORDS
from fastclip.drawing import BLUE, GREEN, INK, MUTED, new_figure
from fastclip.evaluate.classification import class_features
from small_clip import arguments

PEN, SIDE = 4, 32  # pixels
# Strokes in the order of handwriting, each a line through points, on 32 x 32 pixels.
DRAWINGS = {
    "one": [[(11, 9), (17, 3)], [(17, 3), (17, 29)]],
    "four": [[(17, 2), (7, 18)], [(7, 18), (25, 18)], [(19, 11), (19, 29)]],
    "five": [[(10, 4), (10, 14)], [(10, 14), (17, 12), (22, 17), (22, 23), (17, 28), (9, 27)],
             [(10, 4), (22, 4)]],
    "seven": [[(8, 4), (23, 4)], [(23, 4), (14, 29)], [(10, 16), (22, 16)]],
}  # fmt: skip


def pen_on_paper(strokes: list[list[tuple[int, int]]]) -> torch.Tensor:
    """Draw strokes; return the (8, 8) uint8 digit, bright on black."""
    paper = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(paper)
    for stroke in strokes:
        pen.line(stroke, fill=255, width=PEN, joint="curve")
    return torch.from_numpy(np.array(paper.reduce(SIDE // 8)))


def main(argv: Sequence[str] | None = None) -> dict[str, str]:
    args = arguments(__doc__, argv, checkpoint=WHERE)
    ready = digits_model(args)
    classes = class_features(lambda texts: features_of_texts(ready, texts), DIGIT_WORDS, PROMPTS)

    guesses, figure = {}, new_figure(10, 1.9 * len(DRAWINGS))
    figure.suptitle("Pictionary: what is it, after each stroke?", x=0.03, y=0.985, ha="left",
        fontsize=13, color=INK, weight="bold")  # fmt: skip
    most = max(map(len, DRAWINGS.values()))
    cells = figure.add_gridspec(len(DRAWINGS), 2 * most, left=0.03, right=0.97, top=0.92,
        bottom=0.03, hspace=0.15, wspace=0.35)  # fmt: skip
    for row, (word, strokes) in enumerate(DRAWINGS.items()):
        drawn = torch.stack([pen_on_paper(strokes[: n + 1]) for n in range(len(strokes))])
        # The digit is alone, in the first of the six cells of the grid that the model expects.
        images = place_alone(drawn, torch.zeros(len(drawn), dtype=torch.int64))
        logits = ready.logit_scale * features_of_images(ready, images) @ classes.T
        probabilities = logits.softmax(1)
        words = [DIGIT_WORDS[best] for best in probabilities.argmax(1).tolist()]
        guesses[word] = words[-1]
        print(f"{word:<6} " + ", ".join(
            f"stroke {n}: {guess} ({best:.0%})" for n, (guess, best) in
            enumerate(zip(words, probabilities.amax(1).tolist(), strict=True), 1)
        ))  # fmt: skip
        for n, shares in enumerate(probabilities.tolist()):
            _draw(figure, cells[row, 2 * n], cells[row, 2 * n + 1], drawn[n], shares, word)
    right = sum(word == guess for word, guess in guesses.items())
    print(f"{right} of {len(guesses)} finished drawings are named right")
    path = args.output / "pictionary.png"
    figure.savefig(path)
    print(f"wrote {path}")
    return guesses


def _draw(figure, left, right, digit: torch.Tensor, shares: list[float], word: str) -> None:
    axes = figure.add_subplot(left)
    axes.imshow(digit.numpy(), cmap="gray_r", vmin=0, vmax=255)
    axes.set_axis_off()
    bars = figure.add_subplot(right)
    colours = [GREEN if name == word else BLUE for name in DIGIT_WORDS]
    bars.barh(DIGIT_WORDS, shares, color=colours)
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.set_xticks([])
    bars.tick_params(colors=MUTED, length=0, labelsize=7.5)
    bars.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
