"""The arguments of `fastclip bench loss`, `siglip` and `losses`."""

import argparse
from pathlib import Path

from fastclip.benchmarks import values
from fastclip.benchmarks.cases import DATA
from fastclip.benchmarks.family.losses import LOSSES
from fastclip.benchmarks.measure import EXACT_UP_TO, Plan
from fastclip.benchmarks.step import PRODUCTS, STEP
from fastclip.benchmarks.values import argument

DEFAULT = Plan()
DEVICES = ("cpu", "cuda")
FORMATS = ("png", "pdf", "svg")


def add_objective(parser: argparse.ArgumentParser) -> None:
    """Of one objective and all its providers."""
    parser.description = (
        "Time one forward and backward of every provider, in turns with the others and with a "
        "matmul, and print a markdown table. Times are in milliseconds."
    )
    what = parser.add_argument_group("what is measured")
    _add_sizes(what, D=512)
    what.add_argument("--dtype", type=argument("--dtype", values.dtype), nargs="+",
        default=["float32"], metavar="DTYPE",
        help=f"The dtypes of features: {', '.join(values.DTYPES)}, or bf16, fp16, half (default: "
        "float32).")  # fmt: skip
    what.add_argument("--data", nargs="+", choices=tuple(DATA), default=["random"],
        help="What features are like, see benchmarks/cases.py (default: random).")  # fmt: skip
    what.add_argument("--logit-scale", type=argument("--logit-scale", values.positive), nargs="+",
        default=[100.0], metavar="SCALE", help="Factors of cosines (default: 100).")  # fmt: skip
    what.add_argument(
        "--autocast", action="store_true", help="Time float32 cases under autocast to bfloat16 too."
    )
    what.add_argument(
        "--provider", nargs="+", metavar="NAME", default=["*"],
        help='Names or patterns, such as "fastclip/*", of what `fastclip bench providers` lists, '
        "and functions of your own, as module:function or file.py:function (default: all that are "
        "listed).",
    )  # fmt: skip
    what.add_argument(
        "--pass", dest="whats", nargs="+", choices=tuple(PRODUCTS), default=[STEP], metavar="PASS",
        help="What is timed: step, which is forward and backward, or forward, or backward alone "
        "(default: step). Memory and errors are those of a step.",
    )  # fmt: skip
    add_device(what)
    _add_memory(what)
    what.add_argument(
        "--accuracy", action=argparse.BooleanOptionalAction, default=None,
        help=f"Measure the error against float64, up to N = {EXACT_UP_TO:,} (default: where a "
        "provider is a function of your own).",
    )  # fmt: skip
    _add_how(parser)
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=["png"], help="Of figures (default: png)."
    )


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
        help=f"Names or patterns of the losses: {', '.join(LOSSES)} (default: all).",
    )  # fmt: skip
    what.add_argument(
        "--provider", nargs="+", metavar="NAME", default=["*"],
        help="Names or patterns of whom to time, such as fastclip or lightly: what stands after "
        "the / in `fastclip bench providers` (default: all).",
    )  # fmt: skip
    _add_memory(what)
    _add_how(parser)


def add_device(parser: argparse._ActionsContainer) -> None:
    """--device, where things run."""
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu",
        help="Where: cuda is timed by CUDA events, its memory is the allocator's (default: cpu).",
    )  # fmt: skip


def _add_sizes(what: argparse._ArgumentGroup, D: int) -> None:
    what.add_argument(
        "--n", type=argument("--n", values.size), nargs="+", default=[1024, 4096], metavar="N",
        help="The numbers of pairs in a batch, such as 4096 or 4k (default: 1k 4k).",
    )  # fmt: skip
    what.add_argument(
        "--d", type=argument("--d", values.size), nargs="+", default=[D], metavar="D",
        help=f"The dimensions of features (default: {D}).",
    )  # fmt: skip


def _add_memory(what: argparse._ArgumentGroup) -> None:
    what.add_argument(
        "--memory", action=argparse.BooleanOptionalAction, default=DEFAULT.memory,
        help="Measure peak memory, on a CPU of each in a fresh process, which takes seconds "
        "(default: yes).",
    )  # fmt: skip


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--threads", type=argument("--threads", values.size), metavar="NUM",
        help="How many threads torch uses (default: torch's own choice, OMP_NUM_THREADS).",
    )  # fmt: skip
    how.add_argument(
        "--rounds", type=argument("--rounds", values.size), default=DEFAULT.rounds, metavar="NUM",
        help=f"Measure at least so many rounds (default: {DEFAULT.rounds}).",
    )  # fmt: skip
    how.add_argument(
        "--budget", type=argument("--budget", values.seconds), default=DEFAULT.budget_seconds,
        metavar="SECONDS",
        help="Go on with rounds until so much time is spent on an N (default: "
        f"{DEFAULT.budget_seconds:g}).",
    )  # fmt: skip
    how.add_argument(
        "--limit", type=argument("--limit", values.seconds), default=DEFAULT.limit_seconds,
        metavar="SECONDS",
        help=f"Measure a call that is slower than this once (default: {DEFAULT.limit_seconds:g}).",
    )  # fmt: skip
    how.add_argument(
        "--output", type=Path, metavar="DIR",
        help="Write DIR/<device>/<date>-<loss, siglip or losses> as .json, .md and .csv, and "
        "figures of one loss; their names are printed (default: write nothing).",
    )  # fmt: skip
