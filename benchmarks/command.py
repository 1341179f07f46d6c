"""`fastclip bench`: measure and print a table, or print one from saved results."""

import argparse
import fnmatch
import sys
from collections.abc import Collection
from pathlib import Path

import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.arguments import add_family, add_objective
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.family.losses import LOGIT_SCALE, LOSSES, parts_of, providers_of
from fastclip.benchmarks.measure import Plan
from fastclip.benchmarks.providers import OBJECTIVES, providers
from fastclip.benchmarks.record import objection_to_plots, record, report_of, write_report
from fastclip.benchmarks.results import FAMILY, load_results
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
    fastclip bench losses --n 4096 --d 128
    fastclip bench losses --n 1024 --losses NTXentLoss "Sup*" --no-memory
    fastclip bench providers
    fastclip bench report benchmarks/results/DEVICE/DATE-loss.json
"""
# Beside those of `host.PEERS`: what the family is compared with.
FAMILY_PEERS = ("lightly", "pytorch-metric-learning", "sentence-transformers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, objective, name in (("loss", "clip", "CLIP"), ("siglip", "siglip", "SigLIP")):
        one = actions.add_parser(action, help=f"Time the {name} loss.")
        add_objective(one)
        one.set_defaults(handler=_measure, objective=objective)
    family = actions.add_parser(
        "losses", help="Time each loss of the family against its peers and the dense formula."
    )
    add_family(family)
    family.set_defaults(handler=_measure_family)
    listing = actions.add_parser(
        "providers", help="List providers, and those that would sit out, with the reason."
    )
    listing.set_defaults(handler=_list)
    report = actions.add_parser("report", help="Print the table of saved results, and plot them.")
    report.add_argument("results", type=Path, metavar="RESULTS.json")
    report.add_argument("--plots", action="store_true", help="Write the PNGs beside the results.")
    report.set_defaults(handler=_report)


def run(args: argparse.Namespace) -> int | None:
    try:
        return args.handler(args)
    except _NoMatch as error:
        print(error, file=sys.stderr)
        return 2


def _measure(args: argparse.Namespace) -> int:
    known = {provider.name: provider for provider in providers(args.objective)}
    chosen = [known[name] for name in _matched("provider", args.provider, known)]
    if args.output is not None and (objection := objection_to_plots(args.objective)) is not None:
        print(f"fastclip bench: no plots will be written: {objection}", file=sys.stderr)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    plan = Plan(args.rounds, args.budget, args.limit, args.memory, args.accuracy)
    record(args.objective, args.action, [chosen], _cases(args), plan, args.output, host.facts())
    return 0


def _measure_family(args: argparse.Namespace) -> int:
    losses = _matched("loss", args.losses, LOSSES)
    of_loss = {name: {parts_of(p.name)[1]: p for p in providers_of(name)} for name in losses}
    names = dict.fromkeys(name for of_one in of_loss.values() for name in of_one)
    chosen = _matched("provider", args.provider, names)
    groups = {x: [p for name, p in of_loss[x].items() if name in chosen] for x in losses}
    if left_out := [x for x, group in groups.items() if not group]:
        print(f"fastclip bench: no such provider of {', '.join(left_out)}", file=sys.stderr)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    cases = [Case(N, D, logit_scale=LOGIT_SCALE) for D in args.d for N in args.n]
    plan = Plan(args.rounds, args.budget, args.limit, args.memory)
    facts = host.facts() | {
        name: host.installed_version(name) or "not installed" for name in FAMILY_PEERS
    }
    measured = [group for group in groups.values() if group]
    record(FAMILY, args.action, measured, cases, plan, args.output, facts)
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


class _NoMatch(ValueError):
    """A pattern that matches no known name; the message has both."""


def _matched(kind: str, patterns: Collection[str], known: Collection[str]) -> list[str]:
    """The known names that a pattern matches, in their own order; each must match some."""
    matches = {x: [name for name in known if fnmatch.fnmatch(name, x)] for x in patterns}
    if unknown := [x for x, names in matches.items() if not names]:
        raise _NoMatch(f"no {kind} matches {', '.join(unknown)}; there are {', '.join(known)}")
    found = set().union(*matches.values())
    return [x for x in known if x in found]


def _list(args: argparse.Namespace) -> None:
    for objective in (*OBJECTIVES, *LOSSES):
        print(f"{objective}:")
        for provider in providers(objective):
            print(f"  {provider.name:44} {provider.objection(Case(N=1)) or 'runs here'}")


def _report(args: argparse.Namespace) -> int:
    try:
        results = load_results(args.results)
        objection = objection_to_plots(results.objective) if args.plots else None
        if objection is not None:
            raise ValueError(f"--plots: {objection}")
    except (OSError, ValueError) as error:
        print(f"fastclip bench report: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    print(report_of(results), end="")
    if args.plots:
        write_report(results, args.results.with_suffix(""))
    return 0
