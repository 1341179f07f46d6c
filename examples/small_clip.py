"""A small CLIP of your own, trained in under a minute on pairs that are drawn while it trains.

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
RATE = 3e-3  # of learning, at its highest
# From chance to (B, C, H, W) uint8 images and their B captions, of which no two are equal.
Draw = Callable[[random.Random], tuple[Tensor, list[str]]]


def arguments(
    doc: str, argv: Sequence[str] | None, steps: int | None = None, checkpoint: str = "a file"
) -> argparse.Namespace:
    """Read the command line of an example.

    Args:
        doc: what `--help` says.
        steps: of the training in full; None of an example that trains nothing itself.
        checkpoint: where the model is looked for by default.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=OUTPUT,
        help="Where files are written. The default is %(default)s.")  # fmt: skip
    parser.add_argument("--checkpoint", metavar="FILE", type=Path,
        help=f"A trained model. The default is {checkpoint}.")  # fmt: skip
    if steps is not None:
        parser.add_argument("--steps", metavar="N", type=int, default=steps,
            help="Steps of the training. Fewer than %(default)s are for a quick look: what is "
            "said of quality needs all of them.")  # fmt: skip
    args = parser.parse_args(argv)
    if steps is not None and args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    if args.checkpoint is not None and not args.checkpoint.is_file():
        parser.error(f"there is no file {args.checkpoint}")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output cannot be made: {error}")
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
    """Train on what `draw` returns, at every step something new.

    Returns:
        The loss of each step, over the logarithm of its number of pairs: 1 is a model that knows
        nothing.
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
    """Load the weights of `args.checkpoint`, or of an earlier run, or train and keep them.

    Args:
        name: of the file in `args.output` that weights are kept in.
        drawing: called before a training, for what it is trained on.
        full_steps: the weights of another number of steps are kept in a file of their own.
        training: called as `train` is, and returns what it does.

    Raises:
        SystemExit: the file does not have the weights of this model.
    """
    quick = "" if args.steps == full_steps else f"-{args.steps}-steps"
    kept = args.output / f"{name}{quick}.pt"
    path = args.checkpoint or kept
    if path.is_file():
        print(f"the model is {path}")
        try:
            ready.model.load_state_dict(torch.load(path, weights_only=True))
        except Exception as error:
            raise SystemExit(f"{path} does not have the weights of this model: {error}") from None
        return ready
    print(f"training for {args.steps} steps, once; the model is kept in {kept}")
    losses = training(ready, drawing(), args.steps)
    last = losses[-max(1, len(losses) // 10) :]
    print(f"the loss fell to {sum(last) / len(last):.0%} of that of a model that knows nothing")
    with replacing(kept) as file:
        torch.save(ready.model.state_dict(), file)
    return ready
