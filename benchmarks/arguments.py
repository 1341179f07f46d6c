"""The arguments of `fastclip bench loss`, `siglip` and `losses`."""

import argparse
from pathlib import Path

from fastclip.benchmarks.cases import DATA
from fastclip.benchmarks.family.losses import LOSSES
from fastclip.benchmarks.measure import EXACT_UP_TO, Plan

DTYPES = ("float32", "bfloat16", "float16", "float64")
DEFAULT = Plan()


def add_objective(parser: argparse.ArgumentParser) -> None:
    """Of one objective and all its providers."""
    parser.description = (
        "Time one forward and backward of every provider, in turns with the others and with a "
        "float32 matmul, and print a markdown table."
    )
    what = parser.add_argument_group("what is measured")
    _add_sizes(what, D=512)
    what.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"],
        help="The dtypes of features.")  # fmt: skip
    what.add_argument("--data", nargs="+", choices=tuple(DATA), default=["random"],
        help="What features are like: see benchmarks/cases.py.")  # fmt: skip
    what.add_argument("--logit-scale", type=float, nargs="+", default=[100.0],
        help="The factors of cosines.")  # fmt: skip
    what.add_argument(
        "--autocast", action="store_true", help="Time float32 cases under autocast to bfloat16 too."
    )
    what.add_argument(
        "--provider", nargs="+", metavar="NAME", default=["*"],
        help='Names or patterns, such as "fastclip/*", of what `fastclip bench providers` lists. '
        "The default is all.",
    )  # fmt: skip
    _add_memory(what)
    what.add_argument(
        "--accuracy", action=argparse.BooleanOptionalAction, default=DEFAULT.accuracy,
        help=f"Measure the error against float64, up to N = {EXACT_UP_TO}.",
    )  # fmt: skip
    _add_how(parser)


def add_family(parser: argparse.ArgumentParser) -> None:
    """Of every loss of the family, against its peers and the dense formula."""
    parser.description = (
        "Time one forward and backward of each loss: fastclip's, those of other libraries and the "
        "formula in eager PyTorch, in turns, on random unit vectors in float32; and print a "
        "markdown table. A library that is not installed is a line that says so."
    )
    what = parser.add_argument_group("what is measured")
    _add_sizes(what, D=128)
    what.add_argument(
        "--losses", nargs="+", metavar="NAME", default=["*"],
        help=f"Names or patterns of the losses: {', '.join(LOSSES)}. The default is all.",
    )  # fmt: skip
    what.add_argument(
        "--provider", nargs="+", metavar="NAME", default=["*"],
        help="Names or patterns of whom to time, such as fastclip or lightly: what stands after "
        "the / in `fastclip bench providers`. The default is all.",
    )  # fmt: skip
    _add_memory(what)
    _add_how(parser)


def _add_sizes(what: argparse._ArgumentGroup, D: int) -> None:
    what.add_argument(
        "--n", type=int, nargs="+", default=[1024, 4096], help="The numbers of pairs in a batch."
    )
    what.add_argument("--d", type=int, nargs="+", default=[D], help="The dimensions of features.")


def _add_memory(what: argparse._ArgumentGroup) -> None:
    what.add_argument(
        "--memory", action=argparse.BooleanOptionalAction, default=DEFAULT.memory,
        help="Measure peak memory, of each in a fresh process.",
    )  # fmt: skip


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--threads", type=int, help="How many threads torch uses. The default is torch's own."
    )
    how.add_argument(
        "--rounds", type=int, default=DEFAULT.rounds, help="Measure at least so many rounds."
    )
    how.add_argument(
        "--budget", type=float, default=DEFAULT.budget_seconds, metavar="SECONDS",
        help="Go on with rounds until so much time is spent on an N.",
    )  # fmt: skip
    how.add_argument(
        "--limit", type=float, default=DEFAULT.limit_seconds, metavar="SECONDS",
        help="Measure a call that is slower than this once.",
    )  # fmt: skip
    how.add_argument(
        "--output", type=Path, metavar="DIR",
        help="Write DIR/<device>/<date>-<loss, siglip or losses>.json and .md; plots of one loss.",
    )  # fmt: skip
