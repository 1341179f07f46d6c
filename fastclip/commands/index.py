"""`fastclip index`: what is computed once for embeddings, so that searches are quick and sure."""

import argparse
import sys

from fastclip.commands.model_arguments import refusing
from fastclip.commands.searched import add_searched_arguments, model_of_embeddings, opened
from fastclip.printable import printable
from fastclip.search.build_index import UnknownCaptions, build_index
from fastclip.search.captions import read_captions
from fastclip.search.index import FOLDER
from fastclip.search.searcher import side_of

DESCRIPTION = """\
Prepares a folder of embeddings for searches. Search is exact: all vectors are looked at, and no
index is needed for that. What is computed here is kept in OUT/index: vectors that are stored as
float16 or int8 are converted to float32 once, and the captions of a list are asked, whose best
matches say which scores chance gives.
"""
EPILOG = """\
for example
    fastclip index embeddings
    fastclip index embeddings --captions queries.txt    # such as your users search for
    fastclip index embeddings --no-captions             # needs no model
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_searched_arguments(parser)
    group = parser.add_argument_group("what chance gives")
    group.add_argument("--captions", metavar="FILE",
        help="Other captions to ask than the 500 that come with fastclip, one on each line: texts "
        "such as are searched for.")  # fmt: skip
    group.add_argument("--no-captions", action="store_true",
        help="Ask none. Searches then judge scores by the mean and covariance of the vectors "
        "alone.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("index", _index, args)


def _index(args: argparse.Namespace) -> int:
    if args.no_captions and args.captions is not None:
        raise ValueError("--captions and --no-captions exclude each other")
    captions = [] if args.no_captions else read_captions(args.captions)
    embeddings = opened(args)
    side = side_of(embeddings, args.over)
    ready = model_of_embeddings(args, embeddings, "text") if captions else None
    try:
        index = build_index(embeddings, side, ready, captions, _tell)
    except UnknownCaptions as error:
        if args.captions is not None:
            raise
        _tell(f"{error}. No captions are asked; --captions takes a file of others.")
        index = build_index(embeddings, side, tell=_tell)
    told = "no captions were asked"
    if index.captions is not None:
        told = f"{index.record.num_captions:,} captions were asked"
    print(printable(f"wrote {embeddings.folder / FOLDER}: {len(side):,} vectors; {told}"))
    return 0


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr)
