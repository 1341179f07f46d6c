"""`fastclip demo`: train a small CLIP on images of handwritten digits, in about two minutes.

Everything runs through the parts that a real run uses: data without false negatives, two
transformers, one fused loss over the whole batch, retrieval and zero-shot evaluation, a checkpoint.
"""

import argparse
import sys
from pathlib import Path

import torch

from fastclip.demo.demonstration import demonstrate
from fastclip.demo.settings import DemoSettings
from fastclip.ops.dispatch import ORDER
from fastclip.printable import printable_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def option(name: str, help: str, **settings) -> None:
        parser.add_argument(name, help=f"{help} (default: %(default)s)", **settings)

    option("--batch-size", "pairs in one loss", type=int, default=2048, metavar="N")
    option("--steps", "optimiser steps", type=int, default=200, metavar="N")
    option("--seed", "seed of the initial weights", type=int, default=0, metavar="N")
    option("--output", "directory of demo.png and checkpoint.pt", type=Path,
           default=Path("demo-output"), metavar="DIR")  # fmt: skip
    option("--backend", "what computes the loss", choices=("auto", *ORDER), default="auto")
    option("--threads", "CPU threads", type=int, default=torch.get_num_threads(), metavar="N")


def run(args: argparse.Namespace) -> int:
    try:
        settings = DemoSettings(args.batch_size, args.steps, args.seed, args.backend, args.threads)
        demonstrate(settings, args.output, print)
    except BrokenPipeError:
        raise  # nobody reads what is printed: `cli.py` knows what that means
    except (ArithmeticError, ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"fastclip demo: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    return 0
