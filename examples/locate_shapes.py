"""Find where in an image something is: LocCa's tasks with SigLIP, on shapes with known boxes.

A small SigLIP and a decoder that reads the image tower's patch tokens are trained together on
images of one or two shapes. The decoder learns to write the caption, to give the box of a named
shape, and to give a box with its caption. On new images it is then asked for every shape by name.
Its boxes are compared with the true boxes by their intersection over union (IoU), next to a
constant guess, the mean of all boxes.

    python examples/locate_shapes.py

It takes about two minutes, most of it for the training, which is done once; the model is kept in
OUTPUT/locate_shapes.pt. The figure is examples-output/locate_shapes.png: predicted boxes are solid,
true ones dashed.

The small model finds a single shape to within a pixel or two of 32, which is as near as its 16 bins
allow. With two shapes, it takes the wrong one in three of ten cases, and its captions have even
more errors. It finds nothing but these shapes, and it cannot say that something is not in the
image: it gives a box for every text.
"""

import functools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import fastclip
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.drawing import INK, LINE, new_figure
from fastclip.models.build import build_model
from fastclip.models.config import (
    SIGLIP_LOGIT_BIAS,
    SIGLIP_LOGIT_SCALE,
    ClipConfig,
    SiglipVisionConfig,
    TextConfig,
)
from fastclip.models.inference import InferenceModel
from fastclip.models.locca.boxes import iou_of_pairs
from fastclip.models.locca.parallel import draw_parallel
from fastclip.models.tower_precision import TowerPrecision
from fastclip.progress import is_watched, progress_bar
from scenes import Scene, draw_scene
from shapes import EVERY_SHAPE, SIZE
from small_clip import arguments, trained_once

STEPS, BATCH, RATE = 2000, 32, 3e-3
POOL, HELD_OUT, SHOWN = 6000, 300, 8  # images for training, for the test, and in the figure
TRAINED, TESTED = 1, 2  # the seeds of those images
WIDTH, BINS = 64, 16
LINES = ("#ffffff", "#79c0ff")  # of the boxes in an image


class Batch(NamedTuple):
    """Attributes:
    pixels: (B, 3, SIZE, SIZE) uint8.
    texts: the dict of texts for `LocCa.forward`.
    ids: (B,) int64, equal where captions are.
    """

    pixels: Tensor
    texts: dict[str, Tensor]
    ids: Tensor


def new_locca(tokenizer: WordTokenizer) -> InferenceModel:
    """Return a small SigLIP with a small decoder, with random weights."""
    torch.manual_seed(0)
    vision = SiglipVisionConfig(SIZE, patch_size=8, width=WIDTH, layers=2, heads=4)
    text = TextConfig(
        tokenizer.context_length, tokenizer.vocab_size, width=WIDTH, heads=4, layers=1,
        no_causal_mask=True, pool_type="last",
    )  # fmt: skip
    pair = build_model(
        ClipConfig(
            WIDTH, vision, text, custom_text=True, init_logit_scale=SIGLIP_LOGIT_SCALE,
            init_logit_bias=SIGLIP_LOGIT_BIAS,
        )
    )  # fmt: skip
    # There are few steps, and most of them are needed to learn where things are.
    torch.nn.init.normal_(pair.visual.trunk.pos_embed, std=0.5)
    # The ids of a WordTokenizer end with the start and the end of a text.
    num_words = tokenizer.vocab_size
    vocabulary = fastclip.LocCaVocabulary(
        num_words, end_id=num_words - 1, start_id=num_words - 2, bins=BINS
    )
    head = fastclip.LocCaHead(
        vocabulary, WIDTH, tokenizer.context_length, width=WIDTH, heads=4, layers=2
    )
    cfg = PreprocessCfg((SIZE, SIZE), mean=(0.3,) * 3, std=(0.3,) * 3, resize_mode="squash")
    return InferenceModel(
        "small LocCa", fastclip.LocCa(pair, head).eval(), tokenizer,
        image_transform_v2(cfg, False, output="uint8"), cfg.to_dict(),
        TowerPrecision("fp32", torch.device("cpu")),
    )  # fmt: skip


def draw_batch(ready: InferenceModel, pool: list[tuple[Tensor, Scene]], chance: random.Random):
    """Draw scenes from a pool, and from each scene one shape as the region."""
    drawn = chance.sample(pool, min(BATCH, len(pool)))
    places = [chance.randrange(len(scene.shapes)) for _, scene in drawn]
    captions = [scene.caption for _, scene in drawn]
    generator = torch.Generator().manual_seed(chance.getrandbits(60))
    texts = {
        "tokens": ready.tokenizer(captions),
        "region_tokens": named(
            ready, [s.names[i] for (_, s), i in zip(drawn, places, strict=True)]
        ),
        "boxes": torch.tensor([s.boxes[i] for (_, s), i in zip(drawn, places, strict=True)]),
        "parallel": draw_parallel(len(drawn), 0.5, generator),
    }
    number = {caption: i for i, caption in enumerate(captions)}
    ids = torch.tensor([number[caption] for caption in captions])
    return Batch(torch.stack([pixels for pixels, _ in drawn]), texts, ids)


def named(ready: InferenceModel, names: list[str]) -> Tensor:
    """Return tokens of texts such as "a red star", without the padding of longer captions."""
    return ready.tokenizer(names)[:, : 3 + 2]


def train(ready: InferenceModel, draw, steps: int) -> list[float]:
    """Train the towers and the decoder together.

    Returns:
        The caption loss of each step over the logarithm of the number of tokens, which is 1 for a
        model that has learned nothing.
    """
    model, loss_fn, losses = ready.model.train(), fastclip.LocCaLoss(), []
    # The second beta is SigLIP's, with which the large first gradients of the bias soon fade.
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2), pct_start=0.1)
    chance = random.Random(0)
    unknowing = torch.tensor(float(model.head.vocabulary.size)).log().item()
    with progress_bar(steps, title="training", shown=is_watched()) as advance:
        for _ in range(steps):
            batch = draw(chance)
            terms = loss_fn(**model(ready.prepare(batch.pixels), batch.texts), ids=batch.ids)
            optimizer.zero_grad()
            sum(terms.values()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            model.pair.clamp_logit_scale()
            losses.append(terms["caption_loss"].item() / unknowing)
            advance(1, " ".join(f"{name} {term.item():.3f}" for name, term in terms.items()))
    model.eval()
    return losses


def predicted(ready: InferenceModel, scenes: list[Scene]) -> Tensor:
    """Return (N, 4) predicted boxes of all shapes, one scene after the other."""
    pixels = [ready.transform(scene.image) for scene in scenes for _ in scene.shapes]
    names = named(ready, [name for scene in scenes for name in scene.names])
    batches = zip(torch.stack(pixels).split(256), names.split(256), strict=True)
    return torch.cat(
        [ready.model.predict_boxes(ready.prepare(some), texts) for some, texts in batches]
    )


def save_figure(path: Path, scenes: list[Scene], found: Tensor, described: list[str]) -> None:
    """Write images with predicted boxes, solid, and true ones, dashed, each shape in a colour."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    columns = min(4, len(scenes))
    rows = -(-len(scenes) // columns)
    figure = new_figure(2.6 * columns, 3.1 * rows + 0.6)
    figure.suptitle("Shapes found by their names", x=0.02, ha="left", fontsize=13, color=INK)
    figure.legend(
        handles=[Line2D([], [], color=INK, ls="-", label="predicted"),
                 Line2D([], [], color=INK, ls="--", label="true")],
        loc="upper right", ncols=2, frameon=False, fontsize=9,
    )  # fmt: skip
    boxes = iter(found.tolist())
    for number, (scene, text) in enumerate(zip(scenes, described, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(scene.image, extent=(0, 1, 1, 0))
        for colour, true in zip(LINES, scene.boxes, strict=False):
            for (x0, y0, x1, y1), style in ((next(boxes), "-"), (true, "--")):
                axes.add_patch(
                    Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, ls=style)
                )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(LINE)
        axes.set_xlabel(text, fontsize=7, color=INK)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> dict[str, tuple[float, float]]:
    args = arguments(__doc__, argv, STEPS, "OUTPUT/locate_shapes.pt, where an earlier run left it")
    words = [f"and a {s.size} {s.colour} {s.form}" for s in EVERY_SHAPE]
    ready = new_locca(WordTokenizer.learn(words, context_length=2 + 2 * 4 + 1))

    def drawing():
        chance = random.Random(TRAINED)
        scenes = [draw_scene(chance) for _ in range(POOL)]
        pool = [(ready.transform(scene.image), scene) for scene in scenes]
        return functools.partial(draw_batch, ready, pool)

    ready = trained_once(args, "locate_shapes", ready, drawing, STEPS, train)
    chance = random.Random(TESTED)
    scenes = [draw_scene(chance) for _ in range(HELD_OUT)]
    true = torch.tensor([box for scene in scenes for box in scene.boxes])
    boxes = predicted(ready, scenes)
    constant = true.mean(0).expand_as(true)  # of the test boxes, which favours this guess
    of_boxes, of_constant = iou_of_pairs(boxes, true), iou_of_pairs(constant, true)
    is_alone = torch.tensor([len(scene.shapes) == 1 for scene in scenes for _ in scene.shapes])
    found = {}
    print(f"{len(true)} shapes in {len(scenes)} images that the model was not trained on:")
    for name, rows in {"one shape": is_alone, "two shapes": ~is_alone}.items():
        found[name] = (of_boxes[rows].mean().item(), of_constant[rows].mean().item())
        hits = (of_boxes[rows] >= 0.5).float().mean().item()
        print(
            f"    images of {name}: mean IoU {found[name][0]:.2f}, of the mean box "
            f"{found[name][1]:.2f}; {hits:.0%} of boxes have an IoU of 0.5 or more"
        )

    shown = scenes[:SHOWN]
    pixels = torch.stack([ready.transform(scene.image) for scene in shown])
    _, tokens = ready.model.describe(ready.prepare(pixels))
    described = [f"describe: {ready.tokenizer.decode(row)}" for row in tokens]
    path = args.output / "locate_shapes.png"
    save_figure(path, shown, boxes[: sum(len(scene.shapes) for scene in shown)], described)
    print(f"wrote {path}")
    return found


if __name__ == "__main__":
    main()
