"""`fastclip duplicates`: list groups of near duplicates among images or texts."""

import argparse
import json
import sys

from fastclip.commands.model_arguments import refusing
from fastclip.commands.searched import add_folder_arguments, opened
from fastclip.counted import counted
from fastclip.printable import printable
from fastclip.search.duplicates import ALIKE, duplicates
from fastclip.search.results import name_of
from fastclip.search.searcher import chosen_side

DESCRIPTION = """\
Prints the groups of near duplicates in a folder of embeddings, one name per line, with a blank line
after each group. Two items are near duplicates if their cosine is at least --threshold. A chain of
near duplicates is one group, so its ends may be less alike. No model is needed.
"""
EPILOG = """\
for example
    fastclip duplicates embeddings
    fastclip duplicates embeddings --threshold 0.98 --json > groups.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_folder_arguments(parser)
    parser.add_argument("--threshold", metavar="COSINE", type=float, default=ALIKE,
        help="The least cosine of two near duplicates. The default is "
        "%(default)s.")  # fmt: skip
    parser.add_argument("--json", action="store_true",
        help="Print one JSON object per group, each on its own line: {\"group\": ..., \"ids\": "
        "[...], \"names\": [...]}. The summary goes to standard error.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("duplicates", _duplicates, args)


def _duplicates(args: argparse.Namespace) -> int:
    embeddings = opened(args)
    side = chosen_side(embeddings, args.over)
    found = duplicates(side, args.threshold)
    for number, group in enumerate(found.groups, start=1):
        ids = group.tolist()
        names = [name_of(row, own) for own, row in zip(ids, embeddings.metadata(ids), strict=True)]
        if args.json:
            print(json.dumps({"group": number, "ids": ids, "names": names}))
        else:
            print("\n".join([*map(printable, names), ""]))
    total = sum(map(len, found.groups))
    summary = (
        f"{counted(len(found.groups), 'group')} of {total:,} near duplicates among {len(side):,} "
        f"rows, at a cosine of {args.threshold:g} or more"
    )
    if found.num_unusable:
        summary += (
            f"; {found.num_unusable:,} vectors are in no group because they have no cosine: they "
            "are zero, not finite or too long"
        )
    print(summary, file=sys.stderr if args.json else sys.stdout)
    return 0
