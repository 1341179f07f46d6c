"""A content filter whose thresholds are computed from allowed images.

A rule is a text; images of what it names are to be blocked. Typical cosines differ from text to
text, so one threshold for all rules misses forbidden images for some rules and blocks allowed
images for others. Here, 2,000 allowed images show which scores chance gives for each rule, and an
image is blocked if fewer than one in a hundred of them is as near to the rule. So, by design, one
in a hundred allowed images is blocked.

    python examples/content_filter.py

It takes about ten seconds, and half a minute more the first time, when a small CLIP of shapes is
trained. The figure is examples-output/content_filter.png.

The small model distinguishes eight colours and six forms, so rules here can name only these. No
threshold can block what the model does not see. The threshold promises how many allowed images are
blocked, if they resemble the images from which it was computed; it does not promise how many
forbidden images are blocked. For comparison, the figure also has the threshold of a normal
distribution, mean + 2.33 deviations: the scores of this model are not normal, and it is too high
for every rule.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch

from digits import features_of_images, features_of_texts
from fastclip.drawing import BLUE, INK, LINE, MUTED, RED, new_figure
from fastclip.embeddings.moments import Moments
from fastclip.models.inference import InferenceModel
from fastclip.search.calibration import CaptionNull, Normal
from shapes import EVERY_SHAPE, STEPS, WHERE, Shape, render, shapes_model
from small_clip import arguments

RULES = ("a star", "something purple", "a red ring")
BLOCKED_BY_CHANCE = 0.01  # of allowed images
BY_HAND = 0.5  # a cosine, for comparison
NUM_OF_CHANCE, NUM_TESTED = 2000, 1000


def breaks(rule: str, shape: Shape) -> bool:
    """Return whether every word of a rule applies to a shape."""
    return all(word in ("a", "something", *shape) for word in rule.split())


def vectors(
    ready: InferenceModel, shapes: list[Shape], num: int, chance: random.Random
) -> np.ndarray:
    """Render `num` images of some shapes and return their features, (num, D)."""
    images = [ready.transform(render(chance.choice(shapes), chance)) for _ in range(num)]
    return features_of_images(ready, torch.stack(images)).numpy()


def main(argv: Sequence[str] | None = None) -> dict[str, tuple[float, float]]:
    args = arguments(__doc__, argv, steps=STEPS, checkpoint=WHERE)
    ready, chance = shapes_model(args), random.Random(1)
    found, figure = {}, new_figure(9, 2.3 * len(RULES))
    grid = figure.add_gridspec(
        len(RULES), 1, left=0.03, right=0.97, top=0.9, bottom=0.06, hspace=0.5
    )
    print(f"{'rule':<18}threshold  blocked of allowed  of forbidden    with {BY_HAND} by hand")
    for row, rule in enumerate(RULES):
        query = features_of_texts(ready, [rule])[0].numpy()
        allowed = [shape for shape in EVERY_SHAPE if not breaks(rule, shape)]
        forbidden = [shape for shape in EVERY_SHAPE if breaks(rule, shape)]
        known = vectors(ready, allowed, NUM_OF_CHANCE, chance)
        # p of a score: the fraction of allowed images that are as near to the rule.
        null = CaptionNull(np.sort(known @ query))
        scores = [vectors(ready, some, NUM_TESTED, chance) @ query for some in (allowed, forbidden)]
        blocked = [float((null.p_values(s) < BLOCKED_BY_CHANCE).mean()) for s in scores]
        by_hand = [float((s > BY_HAND).mean()) for s in scores]
        threshold = float(null.best[-int(BLOCKED_BY_CHANCE * NUM_OF_CHANCE) + 1])
        found[rule] = (blocked[0], blocked[1])
        print(f"{rule:<18}{threshold:>9.2f}{blocked[0]:>20.1%}{blocked[1]:>14.1%}    "
            f"{by_hand[0]:.1%}, {by_hand[1]:.1%}")  # fmt: skip
        normal = Normal(Moments.of(known))
        mean, above = (float(normal.z(query, np.array([x]))[0]) for x in (0.0, 1.0))
        at = (2.326 - mean) / (above - mean)  # at the z of one in a hundred
        _draw(figure.add_subplot(grid[row]), rule, scores, threshold, at)
    figure.suptitle("Cosines to a rule: allowed images, forbidden ones, and where to block",
        x=0.03, y=0.98, ha="left", fontsize=13, color=INK, weight="bold")  # fmt: skip
    path = args.output / "content_filter.png"
    figure.savefig(path)
    print(f"wrote {path}")
    return found


def _draw(axes, rule: str, scores: list[np.ndarray], threshold: float, normal: float) -> None:
    bins = np.linspace(-0.6, 1, 81)
    axes.hist(scores[0], bins, color=BLUE, alpha=0.6, label="allowed")
    axes.hist(scores[1], bins, color=RED, alpha=0.6, label="forbidden")
    axes.axvline(threshold, color=INK, linewidth=2, label="1 in 100 of allowed images")
    axes.axvline(normal, color=INK, linestyle=":", label="1 in 100 of a normal distribution")
    axes.axvline(BY_HAND, color=MUTED, linestyle="--", label="by hand")
    axes.set_title(f"rule: {rule}", loc="left", fontsize=10, color=INK)
    axes.set_yticks([])
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[:].set_color(LINE)
    axes.legend(fontsize=7.5, frameon=False, loc="upper left")


if __name__ == "__main__":
    main()
