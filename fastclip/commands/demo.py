"""`fastclip demo`: train a small CLIP on images of handwritten digits, in about two minutes.

It uses the same parts as a real run: data without false negatives, two transformers, one fused loss
over the whole batch, retrieval and zero-shot evaluation, and a checkpoint.
"""

import argparse
import sys
from pathlib import Path

import torch

from fastclip.demo.demonstration import demonstrate
from fastclip.demo.settings import DemoSettings
from fastclip.ops.dispatch import ORDER
from fastclip.printable import printable_lines

DESCRIPTION = """\
Trains a small CLIP on captioned images of handwritten digits, which are part of scikit-learn, in
about two minutes on two CPU cores. Prints and draws what the model has learned, and writes a
checkpoint that the other commands accept.
"""
EPILOG = """\
for example
    fastclip demo
    fastclip demo --steps 50 --output quick-demo    # shorter, but it learns less
    fastclip classify demo-output/checkpoint.pt digit.png --classes digits --templates digits
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG

    def option(name: str, help: str, **settings) -> None:
        parser.add_argument(name, help=f"{help} The default is %(default)s.", **settings)

    option("--batch-size", "The number of pairs in one loss.", type=int, default=2048, metavar="N")
    option("--steps", "The number of optimiser steps.", type=int, default=200, metavar="N")
    option("--seed", "The seed of the initial weights.", type=int, default=0, metavar="N")
    option("--output", "The folder that demo.png and checkpoint.pt are written to.", type=Path,
           default=Path("demo-output"), metavar="DIR")  # fmt: skip
    option(
        "--backend", "The backend that computes the loss.", choices=("auto", *ORDER), default="auto"
    )
    option(
        "--threads",
        "The number of CPU threads to use.",
        type=int,
        default=torch.get_num_threads(),
        metavar="N",
    )


def run(args: argparse.Namespace) -> int:
    try:
        settings = DemoSettings(args.batch_size, args.steps, args.seed, args.backend, args.threads)
        demonstrate(settings, args.output, print)
    except BrokenPipeError:
        raise  # the reader of the output is gone, which `cli.py` handles
    except (ArithmeticError, ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"fastclip demo: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    return 0
