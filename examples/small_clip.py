"""A small CLIP, trained in under a minute on pairs that are drawn during the training.

The examples share this file: `new_model` makes the model, `train` trains it with fastclip's loss,
`trained_once` keeps it in a file, and `arguments` reads the command line.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import fastclip
from fastclip.atomic_file import replacing
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.models.build import build_model
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.inference import InferenceModel
from fastclip.models.padding import without_padding
from fastclip.models.tower_precision import TowerPrecision
from fastclip.progress import is_watched, progress_bar

OUTPUT = Path("examples-output")
RATE = 3e-3  # the highest learning rate
# A function that draws (B, C, H, W) uint8 images and their B captions, of which no two are equal.
Draw = Callable[[random.Random], tuple[Tensor, list[str]]]


def arguments(
    doc: str, argv: Sequence[str] | None, steps: int | None = None, checkpoint: str = "a file"
) -> argparse.Namespace:
    """Read the command line of an example.

    Args:
        doc: the text of `--help`.
        steps: the steps of a full training; None if the example trains nothing itself.
        checkpoint: the default place of the model, in words.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=OUTPUT,
        help="The folder for written files. The default is %(default)s.")  # fmt: skip
    parser.add_argument("--checkpoint", metavar="FILE", type=Path,
        help=f"A trained model. The default is {checkpoint}.")  # fmt: skip
    if steps is not None:
        parser.add_argument("--steps", metavar="N", type=int, default=steps,
            help="The steps of the training. Fewer than the default, %(default)s, give a quick "
            "look, but not the quality that the description states.")  # fmt: skip
    args = parser.parse_args(argv)
    if steps is not None and args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    if args.checkpoint is not None and not args.checkpoint.is_file():
        parser.error(f"--checkpoint: there is no file {args.checkpoint}")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output: the folder cannot be created: {error}")
    return args


def new_model(
    tokenizer: WordTokenizer, image_size: tuple[int, int], patch_size: int, seed: int = 0
) -> InferenceModel:
    """Return two small transformers with random weights.

    Args:
        image_size: height and width of the images in pixels, multiples of `patch_size`.
    """
    torch.manual_seed(seed)
    vision = VisionConfig(image_size, patch_size=patch_size, width=64, layers=2, head_width=16)
    text = TextConfig(tokenizer.context_length, tokenizer.vocab_size, width=64, heads=4, layers=1)
    cfg = PreprocessCfg(image_size, mean=(0.3,) * 3, std=(0.3,) * 3, resize_mode="squash")
    return InferenceModel(
        "small CLIP", build_model(ClipConfig(64, vision, text)).eval(), tokenizer,
        image_transform_v2(cfg, False, output="uint8"), cfg.to_dict(),
        TowerPrecision("fp32", torch.device("cpu")),
    )  # fmt: skip


def train(ready: InferenceModel, draw: Draw, steps: int, seed: int = 0) -> list[float]:
    """Train on pairs that `draw` returns anew at every step.

    Returns:
        The loss of each step over the logarithm of its number of pairs, which is 1 for a model that
        has learned nothing.
    """
    model, loss_fn, losses = ready.model.train(), fastclip.ClipLoss(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2), pct_start=0.1)
    chance = random.Random(seed)
    with progress_bar(steps, title="training", shown=is_watched()) as advance:
        for _ in range(steps):
            pixels, captions = draw(chance)
            tokens = without_padding(model, ready.tokenizer(captions))
            loss = loss_fn(*model(ready.prepare(pixels), tokens))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=4.6)  # 100, as CLIP
            losses.append(loss.item() / torch.tensor(float(len(captions))).log().item())
            advance(1, f"loss {loss.item():.3f}")
    model.eval()
    return losses


def trained_once(
    args: argparse.Namespace,
    name: str,
    ready: InferenceModel,
    drawing: Callable[[], Draw],
    full_steps: int,
    training: Callable[[InferenceModel, Draw, int], list[float]] = train,
) -> InferenceModel:
    """Load the weights of `args.checkpoint` or of an earlier run, or else train and save them.

    Args:
        name: the name of the file in `args.output` for the weights.
        drawing: called before a training; returns the function that draws its pairs.
        full_steps: weights of another number of steps are saved in another file.
        training: called like `train`, and returns the same.

    Raises:
        SystemExit: the file does not have the weights of this model.
    """
    quick = "" if args.steps == full_steps else f"-{args.steps}-steps"
    kept = args.output / f"{name}{quick}.pt"
    path = args.checkpoint or kept
    if path.is_file():
        print(f"using the model {path}")
        try:
            ready.model.load_state_dict(torch.load(path, weights_only=True))
        except Exception as error:
            raise SystemExit(f"{path} does not have the weights of this model: {error}") from None
        return ready
    print(f"training once, for {args.steps} steps; the model is saved as {kept}")
    losses = training(ready, drawing(), args.steps)
    last = losses[-max(1, len(losses) // 10) :]
    print(f"the loss fell to {sum(last) / len(last):.0%} of the loss of an untrained model")
    with replacing(kept) as file:
        torch.save(ready.model.state_dict(), file)
    return ready
