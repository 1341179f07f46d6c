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
    """Add the arguments of `loss` and `siglip`, which time all providers of one loss."""
    parser.description = (
        "Time one forward and backward of every provider, in turns with the others and with a "
        "matrix product, and print a markdown table. Times are in milliseconds."
    )
    what = parser.add_argument_group("what is measured")
    _add_sizes(what, D=512)
    what.add_argument("--dtype", type=argument("--dtype", values.dtype), nargs="+",
        default=["float32"], metavar="DTYPE",
        help=f"The dtypes of features: {', '.join(values.DTYPES)}, or bf16, fp16, half (default: "
        "float32).")  # fmt: skip
    what.add_argument("--data", nargs="+", choices=tuple(DATA), default=["random"],
        help="The kinds of features; see benchmarks/cases.py (default: random).")  # fmt: skip
    what.add_argument("--logit-scale", type=argument("--logit-scale", values.positive), nargs="+",
        default=[100.0], metavar="SCALE",
        help="The logit scales, which multiply the cosines (default: 100).")  # fmt: skip
    what.add_argument(
        "--autocast",
        action="store_true",
        help="Also time the float32 cases under autocast to bfloat16.",
    )
    what.add_argument(
        "--provider", nargs="+", metavar="NAME", default=["*"],
        help='Which providers are timed: names from `fastclip bench providers`, patterns such as '
        '"fastclip/*", and functions of your own, as module:function or file.py:function '
        "(default: all that are listed).",
    )  # fmt: skip
    what.add_argument(
        "--pass", dest="whats", nargs="+", choices=tuple(PRODUCTS), default=[STEP], metavar="PASS",
        help="What is timed: step (forward and backward), or forward or backward alone (default: "
        "step). Memory and errors are always measured for a step.",
    )  # fmt: skip
    add_device(what)
    _add_memory(what)
    what.add_argument(
        "--accuracy", action=argparse.BooleanOptionalAction, default=None,
        help=f"Measure the error against float64, up to N = {EXACT_UP_TO:,} (default: only if a "
        "provider is a function of your own).",
    )  # fmt: skip
    _add_how(parser)
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["png"],
        help="The formats of the figures (default: png).",
    )


def add_family(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `losses`, which times every loss of the family against its peers."""
    parser.description = (
        "Time one forward and backward of each loss: fastclip's, other libraries' and the "
        "formula in eager PyTorch, in turns, on random unit vectors in float32, and print a "
        "markdown table. If a library is not installed, a line says so."
    )
    what = parser.add_argument_group("what is measured")
    _add_sizes(what, D=128)
    what.add_argument(
        "--losses", nargs="+", metavar="NAME", default=["*"],
        help=f"Names or patterns of the losses: {', '.join(LOSSES)} (default: all).",
    )  # fmt: skip
    what.add_argument(
        "--provider", nargs="+", metavar="NAME", default=["*"],
        help="Names or patterns of the implementations to time, such as fastclip or lightly: the "
        "part after the / in `fastclip bench providers` (default: all).",
    )  # fmt: skip
    _add_memory(what)
    _add_how(parser)


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add --device."""
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu",
        help="The device. On cuda, times come from CUDA events and memory from torch's allocator "
        "(default: cpu).",
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
        help="Measure peak memory; on a CPU, each provider runs in a fresh process, which takes "
        "seconds (default: yes).",
    )  # fmt: skip


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how it is measured")
    how.add_argument(
        "--threads", type=argument("--threads", values.size), metavar="NUM",
        help="How many threads torch uses (default: torch's own choice, OMP_NUM_THREADS).",
    )  # fmt: skip
    how.add_argument(
        "--rounds", type=argument("--rounds", values.size), default=DEFAULT.rounds, metavar="NUM",
        help=f"The least number of rounds (default: {DEFAULT.rounds}).",
    )  # fmt: skip
    how.add_argument(
        "--budget", type=argument("--budget", values.seconds), default=DEFAULT.budget_seconds,
        metavar="SECONDS",
        help="Add rounds until this time is spent on each N (default: "
        f"{DEFAULT.budget_seconds:g}).",
    )  # fmt: skip
    how.add_argument(
        "--limit", type=argument("--limit", values.seconds), default=DEFAULT.limit_seconds,
        metavar="SECONDS",
        help="Measure a call only once if it is slower than this (default: "
        f"{DEFAULT.limit_seconds:g}).",
    )  # fmt: skip
    how.add_argument(
        "--output", type=Path, metavar="DIR",
        help="Write DIR/<device>/<date>-<loss, siglip or losses> as .json, .md and .csv, with "
        "figures for loss and siglip, and print the names (default: write nothing).",
    )  # fmt: skip
