"""`fastclip plot`: a run's loss, learning rate, scale, recall and batch curve, as one image."""

import argparse
from pathlib import Path

from fastclip.commands.model_arguments import refusing
from fastclip.printable import printable
from fastclip.train.log.results_file import FILE_NAME, read_rows
from fastclip.train.log.run_figure import run_figure

DESCRIPTION = """\
Draws what a run of `fastclip train` has in its results.jsonl, as one PNG: the loss of training and
of validation, the learning rate, the scale of the logits, recall, zero-shot accuracy, and the loss
against the batch size. What a run has no numbers of is left out. A run that is going on may be
drawn too: it has the epochs that are done. The figure needs
matplotlib; `fastclip doctor` says what installs it.
"""
EPILOG = """\
for example
    fastclip plot logs/my-run
    fastclip plot logs/my-run --output my-run.png
"""
FIGURE = "plot.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("run", type=Path, metavar="RUN",
        help="The folder of the run, such as logs/my-run.")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE",
        help=f"The PNG that is written. By default it is {FIGURE} in the folder of the "
        "run.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("plot", _plot, args)


def _plot(args: argparse.Namespace) -> int:
    results = args.run / FILE_NAME
    if not results.is_file():
        raise FileNotFoundError(
            f"{args.run} is not the folder of a run with results: there is no {results}"
        )
    output = args.run / FIGURE if args.output is None else args.output
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output {output}: there is no folder {output.parent}")
    drawn = run_figure(output, args.run.resolve().name, read_rows(results))
    print(printable(f"wrote {output}: {', '.join(drawn)}"))
    return 0
