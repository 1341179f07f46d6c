"""`fastclip bench`: measure and print a table, or print one from saved results."""

import argparse
import datetime
import fnmatch
import importlib.util
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.cases import DATA, Case
from fastclip.benchmarks.measure import EXACT_UP_TO, Plan, measure
from fastclip.benchmarks.providers import OBJECTIVES, Provider, providers
from fastclip.benchmarks.report import markdown
from fastclip.benchmarks.results import Results, load_results
from fastclip.printable import printable_lines

DESCRIPTION = """\
Times the losses of fastclip and of other libraries in turns, forward and backward, counts their
memory and their error, and prints a table.
"""
EPILOG = """\
for example
    fastclip bench loss --n 4096 8192 --d 512 --dtype float32
    fastclip bench loss --n 4096 --data random trained --autocast --accuracy
    fastclip bench siglip --n 1024 --provider "fastclip/*" open_clip
    fastclip bench providers
    fastclip bench report benchmarks/results/DEVICE/DATE-loss.json
"""
DTYPES = ("float32", "bfloat16", "float16", "float64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    clip = actions.add_parser("loss", help="Time the CLIP loss.", description=measure.__doc__)
    siglip = actions.add_parser("siglip", help="Time the SigLIP loss.")
    _add_measurement(clip, "clip")
    _add_measurement(siglip, "siglip")
    listing = actions.add_parser(
        "providers", help="List providers, and those that would sit out, with the reason."
    )
    listing.set_defaults(handler=_list)
    report = actions.add_parser("report", help="Print the table of saved results, and plot them.")
    report.add_argument("results", type=Path, metavar="RESULTS.json")
    report.add_argument("--plots", action="store_true", help="Write the PNGs beside the results.")
    report.set_defaults(handler=_report)


def run(args: argparse.Namespace) -> int | None:
    return args.handler(args)


def _add_measurement(parser: argparse.ArgumentParser, objective: str) -> None:
    default = Plan()
    parser.description = (
        "Time one forward and backward of every provider, in turns with the others and with a "
        "float32 matmul, and print a markdown table."
    )
    parser.set_defaults(handler=_measure, objective=objective)

    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--n", type=int, nargs="+", default=[1024, 4096], help="The numbers of pairs in a batch."
    )
    what.add_argument("--d", type=int, nargs="+", default=[512], help="The dimensions of features.")
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
    what.add_argument(
        "--memory", action=argparse.BooleanOptionalAction, default=default.memory,
        help="Measure peak memory, of each in a fresh process.",
    )  # fmt: skip
    what.add_argument(
        "--accuracy", action=argparse.BooleanOptionalAction, default=default.accuracy,
        help=f"Measure the error against float64, up to N = {EXACT_UP_TO}.",
    )  # fmt: skip

    how = parser.add_argument_group("how")
    how.add_argument(
        "--threads", type=int, help="How many threads torch uses. The default is torch's own."
    )
    how.add_argument(
        "--rounds", type=int, default=default.rounds, help="Measure at least so many rounds."
    )
    how.add_argument(
        "--budget", type=float, default=default.budget_seconds, metavar="SECONDS",
        help="Go on with rounds until so much time is spent on an N.",
    )  # fmt: skip
    how.add_argument(
        "--limit", type=float, default=default.limit_seconds, metavar="SECONDS",
        help="Measure a call that is slower than this once.",
    )  # fmt: skip
    how.add_argument(
        "--output", type=Path, metavar="DIR",
        help="Write DIR/<device>/<date>-<loss or siglip>.json, .md and plots.",
    )  # fmt: skip


def _measure(args: argparse.Namespace) -> int:
    chosen, unknown = _choose(args.objective, args.provider)
    if unknown:
        known = ", ".join(p.name for p in providers(args.objective))
        print(f"no provider matches {', '.join(unknown)}; there are {known}", file=sys.stderr)
        return 2
    if args.output is not None and (objection := _objection_to_plots()) is not None:
        print(f"fastclip bench: no plots will be written: {objection}", file=sys.stderr)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    now = datetime.datetime.now().astimezone()
    results = Results(
        objective=args.objective,
        date=now.isoformat(timespec="seconds"),
        command=shlex.join(["fastclip", *sys.argv[1:]]),
        host=host.facts(),
    )
    stem = None
    if args.output is not None:
        folder = args.output / host.device_name()
        stem = folder / f"{now:%Y-%m-%d-%H%M%S}-{args.action}"

    def save() -> None:
        if stem is not None:
            results.save(stem.with_suffix(".json"))

    plan = Plan(args.rounds, args.budget, args.limit, args.memory, args.accuracy)
    with _progress() as progress:
        measure(results, _cases(args), chosen, plan, save, progress)
    print(markdown(results), end="")
    if stem is not None:
        _write_report(results, stem)
    return 0


def _cases(args: argparse.Namespace) -> list[Case]:
    return [
        Case(N, D, getattr(torch, dtype), logit_scale, data, autocast)
        for logit_scale in args.logit_scale
        for data in args.data
        for dtype in args.dtype
        for autocast in ((False, True) if args.autocast and dtype == "float32" else (False,))
        for D in args.d
        for N in args.n
    ]


def _choose(objective: str, patterns: list[str]) -> tuple[list[Provider], list[str]]:
    """The providers that any pattern matches, in their own order, and patterns without a match."""
    known = providers(objective)
    matches = {
        pattern: {p.name for p in known if fnmatch.fnmatch(p.name, pattern)} for pattern in patterns
    }
    names = set().union(*matches.values())
    return [p for p in known if p.name in names], [x for x in patterns if not matches[x]]


def _list(args: argparse.Namespace) -> None:
    for objective in OBJECTIVES:
        print(f"{objective}:")
        for provider in providers(objective):
            print(f"  {provider.name:27} {provider.objection(Case(N=1)) or 'runs here'}")


def _report(args: argparse.Namespace) -> int:
    objection = _objection_to_plots() if args.plots else None
    try:
        if objection is not None:
            raise ValueError(f"--plots: {objection}")
        results = load_results(args.results)
    except (OSError, ValueError) as error:
        print(f"fastclip bench report: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    print(markdown(results), end="")
    if args.plots:
        _write_report(results, args.results.with_suffix(""))
    return 0


def _write_report(results: Results, stem: Path) -> None:
    report = stem.with_suffix(".md")
    report.write_text(markdown(results))
    written = [report]
    if _objection_to_plots() is None:
        from fastclip.benchmarks.plots import save_plots

        written += save_plots(results, stem)
    for path in written:
        print(path, file=sys.stderr)


def _objection_to_plots() -> str | None:
    if importlib.util.find_spec("matplotlib") is not None:
        return None
    return "they need matplotlib: pip install 'fastclip-kernels[bench]'"


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what runs, where somebody may be watching."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda text: print(text, file=sys.stderr)
        return
    with tqdm(bar_format="{desc} [{elapsed}]", leave=False) as bar:
        yield bar.set_description_str
