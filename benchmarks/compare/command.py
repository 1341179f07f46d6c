"""`fastclip bench compare`: print the table, and return the exit status for a CI job."""

import argparse
import sys
from pathlib import Path

from fastclip.benchmarks import values
from fastclip.benchmarks.compare.judge import SLOWER, UNCLEAR, compare_providers, compare_runs
from fastclip.benchmarks.compare.report import markdown, markdown_of_providers, summary
from fastclip.benchmarks.results import load_results
from fastclip.benchmarks.values import argument
from fastclip.printable import printable_lines

DESCRIPTION = """\
Compares the rows that two runs have in common, or, with --base, all providers of one run with one
of them. The 95 % interval of the median ratio says whether a row is slower, faster or not slower,
or whether one cannot tell.

exit status
    0    nothing is slower than allowed (or --fail-if-slower is not given)
    1    something is slower, or the second run has no time for a row that the first has timed;
         with --fail-if-unclear also if one cannot tell
    2    the files cannot be compared, or an argument is wrong
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, nargs="?", metavar="AFTER.json")
    parser.add_argument(
        "--base", metavar="PROVIDER", help="Compare the other providers of one run with this one."
    )
    parser.add_argument(
        "--fail-if-slower", type=argument("--fail-if-slower", values.fraction),
        metavar="FRACTION",
        help="Exit with 1 if something is slower by more than this fraction, such as 5%%, or is "
        "timed in the first run only (default: exit with 0 whatever is found).",
    )  # fmt: skip
    parser.add_argument(
        "--fail-if-unclear", action="store_true",
        help="Also exit with 1 if one cannot tell, because of noise, few rounds or other machines, "
        "or because a provider was not timed where the one of --base was.",
    )  # fmt: skip
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    limit = args.fail_if_slower
    try:
        if args.fail_if_unclear and limit is None:
            raise ValueError("--fail-if-unclear needs --fail-if-slower")
        if (args.base is None) == (args.after is None):
            raise ValueError("give either a second file or --base")
        before = load_results(args.before)
        if args.base is not None:
            comparison = compare_providers(before, args.base, limit)
            page = markdown_of_providers(comparison, before, args.base, limit)
        else:
            after = load_results(args.after)
            comparison = compare_runs(before, after, limit)
            page = markdown(comparison, before, after, limit)
    except (OSError, ValueError) as error:
        print(f"fastclip bench compare: {printable_lines(str(error))}", file=sys.stderr)
        return 2
    print(page, end="")
    print(f"fastclip bench compare: {summary(comparison)}", file=sys.stderr)
    failing = [SLOWER, *([UNCLEAR] if args.fail_if_unclear else [])]
    fails = any(comparison.with_verdict(verdict) for verdict in failing) or comparison.only_before
    fails = fails or (args.fail_if_unclear and comparison.untimed)
    if limit is None or not fails:
        return 0
    for key, reason in comparison.only_before.items():
        lines = printable_lines(f"the second run has no time for {key}: {reason}")
        print(f"fastclip bench compare: {lines}", file=sys.stderr)
    return 1
