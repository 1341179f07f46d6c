"""Let an encoder draw an image: pixels are optimised until they match a text.

The model does not change; gradients run through the image tower to the pixels. The loss is one
minus the cosine to the text, over random shifts of the image, plus a small penalty for roughness.
Without the shifts and the penalty, the image is noise that only the model takes for a shape.

    python examples/clip_guided_image.py

It takes about twenty seconds, and half a minute more the first time, when a small CLIP of shapes
is trained. The figure, with the images before and after and the loss, is
examples-output/clip_guided_image.png.

The small model gets the colour right, and something like the form, often twice. It cannot draw
well. After some fifty updates, the cosine is already above the cosine of rendered shapes, long
before a person would recognise the form: a high cosine alone proves little about what an image
shows.
"""

import random
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from digits import features_of_images, features_of_texts
from fastclip.drawing import BLUE, GREEN, INK, MUTED, new_figure
from fastclip.models.inference import InferenceModel
from shapes import EVERY_SHAPE, SIZE, STEPS, WHERE, render, shapes_model
from small_clip import arguments

TEXTS = ("a large red circle", "a large green square", "a large yellow triangle")
UPDATES, VIEWS, SHIFT, ROUGHNESS = 150, 8, 2, 0.5


def optimise(
    ready: InferenceModel, text: str, updates: int, seed: int = 0
) -> tuple[Tensor, Tensor, list[float]]:
    """Return the (3, H, W) images in [0, 1] before and after, and the cosine at each update."""
    generator = torch.Generator().manual_seed(seed)
    target = features_of_texts(ready, [text])[0]
    mean, std = (
        torch.tensor(ready.preprocess_cfg[name])[:, None, None] for name in ("mean", "std")
    )
    # Pixels are a sigmoid of the optimised values, so that they stay in [0, 1].
    free = torch.randn(3, SIZE, SIZE, generator=generator).mul_(0.3).sub_(1.5).requires_grad_()
    before = free.detach().sigmoid()
    optimizer = torch.optim.Adam([free], lr=0.1)
    cosines = []
    for _ in range(updates):
        image = free.sigmoid()
        shifts = torch.randint(-SHIFT, SHIFT + 1, (VIEWS, 2), generator=generator).tolist()
        views = torch.stack([image.roll(shift, dims=(1, 2)) for shift in shifts])
        features = ready.model((views - mean) / std, None)[0]
        cosine = F.cosine_similarity(features, target[None]).mean()
        rough = image.diff(dim=1).abs().mean() + image.diff(dim=2).abs().mean()
        optimizer.zero_grad()
        (ROUGHNESS * rough - cosine).backward()
        optimizer.step()
        cosines.append(cosine.item())
    return before, free.detach().sigmoid(), cosines


def cosine_of_rendered(ready: InferenceModel, text: str) -> float:
    """Return the mean cosine of a text to twenty rendered images of the shape that it names."""
    chance = random.Random(0)
    shape = next(shape for shape in EVERY_SHAPE if text in shape.captions)
    images = torch.stack([ready.transform(render(shape, chance)) for _ in range(20)])
    return float((features_of_images(ready, images) @ features_of_texts(ready, [text]).T).mean())


def main(argv: Sequence[str] | None = None) -> dict[str, tuple[float, float]]:
    args = arguments(__doc__, argv, steps=STEPS, checkpoint=WHERE)
    ready = shapes_model(args)
    ready.model.requires_grad_(False)
    found = {}
    figure = new_figure(9, 2.6 * len(TEXTS))
    cells = figure.add_gridspec(len(TEXTS), 3, width_ratios=(1, 1, 2), left=0.03, right=0.97,
        top=0.9, bottom=0.06, hspace=0.25, wspace=0.15)  # fmt: skip
    figure.suptitle("Pixels that are optimised towards a text", x=0.03, y=0.98, ha="left",
        fontsize=13, color=INK, weight="bold")  # fmt: skip
    for row, text in enumerate(TEXTS):
        before, after, cosines = optimise(ready, text, UPDATES)
        rendered = cosine_of_rendered(ready, text)
        found[text] = (cosines[0], cosines[-1])
        print(f"{text}: cosine {cosines[0]:.2f} -> {cosines[-1]:.2f}; rendered {rendered:.2f}")
        for place, (name, image) in enumerate((("before", before), (text, after))):
            axes = figure.add_subplot(cells[row, place])
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.set_axis_off()
            axes.set_title(name, loc="left", fontsize=9.5, color=INK)
        pixels = (after.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(args.output / f"{text.replace(' ', '-')}.png")
        curve = figure.add_subplot(cells[row, 2])
        curve.plot([1 - cosine for cosine in cosines], color=BLUE, label="1 - cosine")
        curve.axhline(1 - rendered, color=GREEN, linestyle="--", label="rendered shapes")
        curve.set_ylim(0, None)
        curve.tick_params(colors=MUTED, length=0, labelsize=8)
        curve.spines[:].set_visible(False)
        curve.legend(fontsize=8, frameon=False)
    path = args.output / "clip_guided_image.png"
    figure.savefig(path)
    print(f"wrote {path}")
    return found


if __name__ == "__main__":
    main()
