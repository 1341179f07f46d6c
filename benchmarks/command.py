"""`fastclip bench`: measure and print a table, print one from saved results, or compare two."""

import argparse
import sys
from pathlib import Path

import torch

from fastclip.benchmarks import choice, host
from fastclip.benchmarks.arguments import FORMATS, add_device, add_family, add_objective
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.choice import facts_of, matched, matched_names, objection_to_device
from fastclip.benchmarks.compare import command as compare
from fastclip.benchmarks.csv_file import csv_text
from fastclip.benchmarks.family.losses import LOGIT_SCALE, LOSSES, parts_of, providers_of
from fastclip.benchmarks.measure import Plan
from fastclip.benchmarks.own import is_own
from fastclip.benchmarks.providers import OBJECTIVES, providers
from fastclip.benchmarks.record import (
    name_files,
    objection_to_plots,
    record,
    report_of,
    write_report,
)
from fastclip.benchmarks.results import FAMILY, load_results
from fastclip.printable import printable_lines

DESCRIPTION = """\
Times a forward and backward of the losses of fastclip, of other libraries and of your own in turns,
measures their memory and their error, and prints a table. A provider is one implementation of a
loss. docs/benchmarks.md is the guide.
"""
EPILOG = """\
for example
    fastclip bench loss --n 4k 8k --d 512 --dtype float32
    fastclip bench loss --n 4096 --data random trained --autocast --accuracy
    fastclip bench loss --n 1k --provider kernel.py:loss package.module:loss "fastclip/*"
    fastclip bench loss --n 4k --dtype bf16 --device cuda --pass forward backward
    fastclip bench siglip --n 1024 --provider "fastclip/*" open_clip
    fastclip bench losses --n 4096 --d 128
    fastclip bench losses --n 1024 --losses NTXentLoss "Sup*" --no-memory
    fastclip bench providers
    fastclip bench report benchmarks/results/DEVICE/DATE-loss.json
    fastclip bench report DATE-loss.json --csv table.csv --plots --format pdf
    fastclip bench compare BEFORE.json AFTER.json --fail-if-slower 0.05
    fastclip bench compare DATE-loss.json --base fastclip/cpu

Times depend on OMP_NUM_THREADS. On a busy machine, OMP_WAIT_POLICY=PASSIVE helps, because idle
threads then do not wait in a loop. The results record both variables if they are set. After Ctrl-C,
the rounds that are finished are kept.
"""
# The libraries that the family is compared with, besides `host.PEERS`.
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
        "providers", help="List the providers, and say why some of them cannot run here."
    )
    add_device(listing)
    listing.set_defaults(handler=_list)
    report = actions.add_parser(
        "report", help="Print the table of saved results, and plot them if asked."
    )
    report.add_argument("results", type=Path, metavar="RESULTS.json")
    report.add_argument(
        "--plots",
        action="store_true",
        help="Write the report, CSV and figures next to the results.",
    )
    report.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["png"],
        help="The formats of the figures (default: png).",
    )
    report.add_argument(
        "--csv", type=Path, metavar="FILE",
        help="Write a line per row as CSV to this file; with -, print it instead of the table.",
    )  # fmt: skip
    report.set_defaults(handler=_report)
    compare.add_arguments(
        actions.add_parser("compare", help="Compare two results, or the providers of one result.")
    )


def run(args: argparse.Namespace) -> int | None:
    try:
        return args.handler(args)
    except choice.NoMatch as error:
        print(error, file=sys.stderr)
        return 2


def _measure(args: argparse.Namespace) -> int:
    if (objection := objection_to_device(args.device)) is not None:
        return _refuse(f"--device {args.device}: {objection}")
    try:
        chosen = matched("provider", args.provider, args.objective)
    except choice.NoMatch:
        raise
    except ValueError as error:
        return _refuse(str(error))
    if args.output is not None and (objection := objection_to_plots(args.objective)) is not None:
        print(f"fastclip bench: no plots will be written: {objection}", file=sys.stderr)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    has_own = any(is_own(provider.name) for provider in chosen)
    plan = Plan(
        args.rounds, args.budget, args.limit, args.memory,
        has_own if args.accuracy is None else args.accuracy,
        tuple(dict.fromkeys(args.whats)), traffic=args.output is not None,
    )  # fmt: skip
    cases, facts = _cases(args), facts_of(args.device)
    record(args.objective, args.action, [chosen], cases, plan, args.output, facts, args.format)
    return 0


def _measure_family(args: argparse.Namespace) -> int:
    losses = matched_names("loss", args.losses, LOSSES)
    of_loss = {name: {parts_of(p.name)[1]: p for p in providers_of(name)} for name in losses}
    names = dict.fromkeys(name for of_one in of_loss.values() for name in of_one)
    chosen = matched_names("provider", args.provider, names)
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
        Case(N, D, getattr(torch, dtype), logit_scale, data, autocast, device=args.device)
        for logit_scale in args.logit_scale
        for data in args.data
        for dtype in args.dtype
        for autocast in ((False, True) if args.autocast and dtype == "float32" else (False,))
        for D in args.d
        for N in args.n
    ]


def _list(args: argparse.Namespace) -> int:
    if (objection := objection_to_device(args.device)) is not None:
        return _refuse(f"--device {args.device}: {objection}")
    case = Case(N=1, device=args.device)
    for objective in (*OBJECTIVES, *LOSSES):
        print(f"{objective}:")
        for provider in providers(objective):
            print(f"  {provider.name:44} {provider.objection(case) or 'runs here'}")
    return 0


def _report(args: argparse.Namespace) -> int:
    try:
        results = load_results(args.results)
        objection = objection_to_plots(results.objective) if args.plots else None
        if objection is not None:
            raise ValueError(f"--plots: {objection}")
        if args.csv is not None and str(args.csv) != "-":
            args.csv.write_text(csv_text(results))
            print(args.csv, file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"fastclip bench report: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    print(csv_text(results) if str(args.csv) == "-" else report_of(results), end="")
    if args.plots:
        name_files(write_report(results, args.results.with_suffix(""), args.format))
    return 0


def _refuse(objection: str) -> int:
    print(f"fastclip bench: {printable_lines(objection)}", file=sys.stderr)
    return 2
