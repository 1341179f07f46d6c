"""Compare encoders: one forward and backward of both towers, with the same weights.

    python -m fastclip.benchmarks.encoders --model ViT-B-32 --batch-size 8

All models are timed in turns with rotating order, and compared by the median over rounds of the
ratio within a round, because the speed of a machine drifts. "Kept for the backward" are the bytes
that a forward leaves in memory, without parameters.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from fastclip.benchmarks.results import write_measurement
from fastclip.benchmarks.timing import median_ratio, rotated, wall_seconds
from fastclip.benchmarks.torchvision import make_importable
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import create_model
from fastclip.train.memory.activation_budget import measure_kept

CAPTION_TOKENS = 12  # of the texts; the rest of the context is padding, as in real captions

Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def providers(model_name: str, directory: Path) -> dict[str, tuple[torch.nn.Module, Encode]]:
    """Return the model of each installed implementation, in training mode, and how to call it.

    Args:
        directory: a scratch folder, in which our model is written for the others to read.
    """
    ours = create_model(model_name)
    found = {"fastclip": (ours, lambda images, tokens: ours(images, tokens)[:2])}
    make_importable()
    save_pretrained(ours, directory / "open_clip")
    try:
        import open_clip

        theirs = open_clip.create_model(f"local-dir:{directory / 'open_clip'}").train()
        found["open_clip"] = theirs, lambda images, tokens: theirs(images, tokens)[:2]
    except ImportError as error:
        print(f"open_clip: {error}", file=sys.stderr)
    try:
        found["transformers"] = _transformers(ours, directory / "hf")
    except (ImportError, RuntimeError) as error:
        print(f"transformers: {error}", file=sys.stderr)
    return found


def _transformers(ours: torch.nn.Module, directory: Path) -> tuple[torch.nn.Module, Encode]:
    from transformers import CLIPModel, SiglipModel

    save_pretrained(ours, directory, layout="hf")
    cls = CLIPModel if ours.logit_bias is None else SiglipModel
    theirs = cls.from_pretrained(directory).train()

    def encode(images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        output = theirs(input_ids=tokens, pixel_values=images)
        return output.image_embeds, output.text_embeds

    return theirs, encode


def make_batch(model: torch.nn.Module, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return (B, 3, H, W) images and (B, T) tokens: start, a caption, end, padding."""
    torch.manual_seed(0)
    text = model.config.text_cfg
    images = torch.randn(batch_size, 3, *model.config.vision_cfg.image_size)
    tokens = torch.zeros(batch_size, text.context_length, dtype=torch.int64)
    length = min(CAPTION_TOKENS, text.context_length)
    tokens[:, :length] = torch.randint(1, text.vocab_size - 2, (batch_size, length))
    tokens[:, length - 1] = text.vocab_size - 1
    return images, tokens


def step(model: torch.nn.Module, encode: Encode, images: Tensor, tokens: Tensor) -> None:
    """Run a forward and backward, and drop the gradients as an optimiser's `zero_grad` does."""
    image_features, text_features = encode(images, tokens)
    (image_features * text_features).sum().backward()
    model.zero_grad()


def measure(model_name: str, batch_size: int, rounds: int) -> dict[str, dict]:
    """Measure seconds per round, kept bytes and the difference from ours, of every model."""
    with tempfile.TemporaryDirectory() as directory:
        found = providers(model_name, Path(directory))
    images, tokens = make_batch(found["fastclip"][0], batch_size)
    results: dict[str, dict] = {}
    with torch.no_grad():
        exact = found["fastclip"][1](images, tokens)
    for name, (model, encode) in found.items():
        with torch.no_grad():
            outputs = encode(images, tokens)
        difference = max((a - b).abs().max().item() for a, b in zip(outputs, exact, strict=True))
        outputs, kept = measure_kept(
            lambda m=encode: m(images, tokens), [*model.parameters(), images, tokens]
        )
        del outputs
        step(model, encode, images, tokens)
        results[name] = {"seconds": [], "kept_bytes": kept, "difference": difference}
    for number in range(rounds):
        for name in rotated(list(found), number):
            model, encode = found[name]
            seconds = wall_seconds(lambda m=model, e=encode: step(m, e, images, tokens))
            results[name]["seconds"].append(seconds)
    return results


def table(results: dict[str, dict]) -> str:
    ours = results["fastclip"]
    lines = [
        "| | median ms | fastclip over it | kept for the backward, MiB | largest difference |",
        "|---|---|---|---|---|",
    ]
    for name, row in results.items():
        lines.append(
            f"| {name} | {1e3 * median(row['seconds']):.0f} | "
            f"{median_ratio(ours['seconds'], row['seconds']):.2f} | "
            f"{row['kept_bytes'] / 2**20:.0f} | {row['difference']:.0e} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastclip.benchmarks.encoders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="ViT-B-32", metavar="NAME")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--threads", type=int, help="torch.set_num_threads; default: torch's own")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write DIR/<device>/<date>-...")
    args = parser.parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    results = measure(args.model, args.batch_size, args.rounds)
    print(table(results))
    if args.output is not None:
        name = f"encoders-{args.model}"
        print(write_measurement(args.output, name, __spec__.name, argv, results), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
