"""`fastclip demo`: train a small CLIP on images of handwritten digits, in about two minutes.

Everything runs through the parts that a real run uses: data without false negatives, two
transformers, one fused loss over the whole batch, retrieval and zero-shot evaluation, a checkpoint.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fastclip.data.digits.grids import MAX_PAIRS, DigitGrids
from fastclip.data.digits.images import load_digits, split_by_image
from fastclip.data.digits.tokenizer import WordTokenizer
from fastclip.data.pixels import standardize
from fastclip.demo import report
from fastclip.demo.checkpoint import save_checkpoint
from fastclip.demo.evaluation import DigitEvaluation, evaluate_digits
from fastclip.demo.figure import Retrieved, save_figure
from fastclip.demo.loop import train
from fastclip.demo.loss_memory import measure_peak_bytes
from fastclip.losses.clip import ClipLoss
from fastclip.models.clip import CLIP
from fastclip.models.digits import EMBED_DIM, digits_config, digits_tokenizer
from fastclip.ops.dispatch import ORDER, resolve_backend
from fastclip.printable import printable_lines
from fastclip.process_memory import peak_resident_bytes
from fastclip.progress import progress_bar
from fastclip.train.settings.step_config import TrainConfig
from fastclip.train.step.optimizer import make_optimizer

EXTRAS = ("sklearn", "matplotlib", "tqdm")
WARMUP_STEPS = 20
LARGE_BATCH = 8192  # measured beside the run's own batch: here the dense loss begins to hurt
NUM_EXAMPLES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def option(name: str, help: str, **settings) -> None:
        parser.add_argument(name, help=f"{help} (default: %(default)s)", **settings)

    option("--batch-size", "pairs in one loss", type=int, default=2048, metavar="N")
    option("--steps", "optimiser steps", type=int, default=200, metavar="N")
    option("--seed", "of the weights and the data", type=int, default=0, metavar="N")
    option("--output", "directory of demo.png and checkpoint.pt", type=Path,
           default=Path("demo-output"), metavar="DIR")  # fmt: skip
    option("--backend", "of the loss", choices=("auto", *ORDER), default="auto")
    option("--threads", "CPU threads", type=int, default=torch.get_num_threads(), metavar="N")


def run(args: argparse.Namespace) -> int:
    try:
        _require_extras()
        config = _config(args)
        backend = resolve_backend(config.backend, torch.empty(0))
        args.output.mkdir(parents=True, exist_ok=True)
    except (ModuleNotFoundError, ValueError, RuntimeError, OSError) as error:
        print(f"fastclip demo: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    torch.set_num_threads(args.threads)

    train_digits, test_digits = split_by_image(load_digits())
    grids = DigitGrids(train_digits)
    tokenizer = digits_tokenizer(grids)
    model = build_model(tokenizer, config.seed)
    optimizer = make_optimizer(model, config)
    print(report.opening(config, model, train_digits, test_digits, backend, args.threads))

    started = time.perf_counter()
    with progress_bar(config.steps) as advance:
        batches = draw_batches(grids, tokenizer, config)
        history = train(
            model, optimizer, ClipLoss(backend=config.backend), batches, config,
            lambda metrics: advance(1, f"loss {metrics.loss:.3f}"),
        )  # fmt: skip
    seconds = time.perf_counter() - started
    peak_run_bytes = peak_resident_bytes()
    save_checkpoint(
        args.output / "checkpoint.pt", model, tokenizer, optimizer, config, config.steps, "demo"
    )

    evaluation = evaluate_digits(model, tokenizer, test_digits)
    losses = [metrics.loss for metrics in history]
    save_figure(
        args.output / "demo.png", losses, config.batch_size, examples(evaluation),
        report.headline(evaluation),
    )  # fmt: skip
    memory = [_loss_memory(B, config.backend) for B in sorted({config.batch_size, LARGE_BATCH})]
    print(report.closing(evaluation, losses, seconds, memory, peak_run_bytes))
    print(f"\nwrote {args.output / 'demo.png'} and {args.output / 'checkpoint.pt'}")
    return 0


def build_model(tokenizer: WordTokenizer, seed: int) -> CLIP:
    torch.manual_seed(seed)
    return CLIP(digits_config(tokenizer))


def draw_batches(
    grids: DigitGrids, tokenizer: WordTokenizer, config: TrainConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (B, 1, 16, 24) float32 images and (B, T) int64 tokens without end."""
    generator = torch.Generator().manual_seed(config.seed)
    while True:
        pairs = grids.draw(config.batch_size, generator)
        yield standardize(pairs.images), tokenizer(pairs.captions)


def examples(evaluation: DigitEvaluation) -> list[Retrieved]:
    """The first test images with the captions they retrieved, as they come."""
    pairs = evaluation.pairs
    return [
        Retrieved(pairs.images[i], pairs.captions[evaluation.retrieved[i]], pairs.captions[i])
        for i in range(min(NUM_EXAMPLES, len(pairs.captions)))
    ]


def _config(args: argparse.Namespace) -> TrainConfig:
    if args.threads < 1:
        raise ValueError(f"threads must be at least 1, got {args.threads}")
    if args.batch_size > MAX_PAIRS:
        raise ValueError(f"batch_size must be at most {MAX_PAIRS}, got {args.batch_size}")
    return TrainConfig(
        batch_size=args.batch_size,
        steps=args.steps,
        warmup_steps=min(WARMUP_STEPS, args.steps),
        learning_rate=1.5e-3,
        seed=args.seed,
        backend=args.backend,
    )


def _require_extras() -> None:
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"needs {', '.join(missing)}: pip install 'fastclip-kernels[demo]'"
        )


def _loss_memory(batch_size: int, backend: str) -> report.LossMemory:
    fused, dense = (
        measure_peak_bytes(loss, batch_size, EMBED_DIM, backend) for loss in ("fused", "dense")
    )
    return report.LossMemory(batch_size, fused, dense)
