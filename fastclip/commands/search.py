"""`fastclip search`: find the images or texts nearest to a query, compared with chance."""

import argparse
import json
import math
import sys
from pathlib import Path

from fastclip.commands.model_arguments import refusing
from fastclip.commands.searched import add_searched_arguments, model_of_embeddings, opened
from fastclip.embeddings.reader import Embeddings
from fastclip.printable import printable
from fastclip.search.calibration import CAPTIONS, NORMAL
from fastclip.search.copies import copy_images
from fastclip.search.duplicates import ALIKE
from fastclip.search.query import IMAGE, ROW, Part, parse_part, parse_words
from fastclip.search.results import Result, name_of
from fastclip.search.searcher import Answer, Searcher, open_searcher

DESCRIPTION = """\
Prints the images or texts that are nearest to a query. Each result has a rank; a cosine (or a
product with the query, if vectors are not of length 1); z, the number of standard deviations by
which its score is above the mean of all vectors; the number of results this good that chance alone
would give; and a path or caption. The last line says how many results stand out from chance, or
that none does.
"""
EPILOG = """\
queries
    cat                        one text; several words are one text
    cat + dog - "black cat"    texts that are added and subtracted; + and - are words of their own
    2:cat + 0.5:dog            with weights
    --image cat.jpg            an image; --image=-0.5:dog.jpg subtracts half of one
    --like 71                  items like the row with the id 71 (--json shows ids); --like=-1:5
                               subtracts row 5. These rows are not among the results.
    1:"10:30 train"            a text that contains a colon must be given with a weight

for example
    fastclip embed logs/my-run photos embeddings
    fastclip index embeddings
    fastclip search embeddings a red car - person --top 5
    fastclip search embeddings --image cat.jpg --dedup --to-folder similar
    fastclip search embeddings sunset --json | jq .image_path

The exit status is 0 if there are results, 1 if there are none, and 2 if the command failed.
"""
NONE_LEFT = 1  # the exit status
WORDS = "query"  # the argument whose words may stand before and after options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "%(prog)s OUT [QUERY ...] [options]"
    add_searched_arguments(parser)
    parser.add_argument("query", metavar="QUERY", nargs="*",
        help="The words to search for; see below.")  # fmt: skip
    group = parser.add_argument_group("the query")
    group.add_argument("--image", metavar="[WEIGHT:]FILE", action="append", default=[],
        help="An image to add to the query. It may be given several times.")  # fmt: skip
    group.add_argument("--like", metavar="[WEIGHT:]ID", action="append", default=[],
        help="The id of a row to add to the query. It may be given several "
        "times.")  # fmt: skip
    group.add_argument("--exact", action="store_true",
        help="Compare with all vectors, even if `fastclip index --faiss` has built an approximate "
        "index.")  # fmt: skip
    group = parser.add_argument_group("the results")
    group.add_argument("--top", metavar="K", type=int, default=10,
        help="How many results to show. The default is %(default)s.")  # fmt: skip
    group.add_argument("--dedup", metavar="COSINE", type=_cosine, nargs="?", const=ALIKE,
        help="Show only the best result of each group of near duplicates, with the size of the "
        "group. Two results are near duplicates if their cosine is at least COSINE, or %(const)s "
        "if it is not given.")  # fmt: skip
    group.add_argument("--min-z", metavar="Z", type=float,
        help="Leave out results with a lower z.")  # fmt: skip
    group.add_argument("--json", action="store_true",
        help="Print one JSON object per result, each on its own line, with all metadata of the "
        "row. The last line goes to standard error.")  # fmt: skip
    group.add_argument("--to-folder", metavar="FOLDER",
        help="Copy the images of the results into this folder, with the rank before each "
        "name.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("search", _search, args)


def _search(args: argparse.Namespace) -> int:
    query = _query(args)
    if args.min_z is not None and math.isnan(args.min_z):
        raise ValueError("--min-z must be a number, got nan")
    if args.top < 1:
        raise ValueError(f"--top must be at least 1, got {args.top}")
    embeddings = opened(args)
    ready = None
    if towers := {part.kind for part in query} - {ROW}:
        only = towers.pop() if len(towers) == 1 else None
        ready = model_of_embeddings(args, embeddings, only)
    searcher = open_searcher(embeddings, ready, args.over, exact=args.exact)
    answer = searcher.answer(query, args.top, alike=args.dedup, min_z=args.min_z)
    for result in answer.results:
        print(json.dumps(result.to_dict(), allow_nan=False) if args.json else _line(result))
    print(_last_line(answer, searcher), file=sys.stderr if args.json else sys.stdout)
    if args.to_folder is not None:
        _copy(embeddings, answer.results, Path(args.to_folder))
    return 0 if answer.results else NONE_LEFT


def _cosine(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a cosine; give the words of the query before --dedup, or after "
            "another option"
        ) from None


def _query(args: argparse.Namespace) -> list[Part]:
    parts = parse_words(args.query)
    parts += [parse_part(text, IMAGE) for text in args.image]
    parts += [parse_part(text, ROW) for text in args.like]
    if not parts:
        raise ValueError("there is nothing to search for: give words, --image or --like")
    if any(abs(part.weight) != 1 for part in parts):
        told = " ".join(f"{part.weight:+g} x {part.name}" for part in parts)
        print(printable(f"searching for {told}"), file=sys.stderr)
    return parts


def _line(result: Result) -> str:
    z = "" if result.z is None else f"z {result.z:5.2f}"
    chance = ""
    if result.expected_chance_hits is not None:
        chance = f"chance {result.expected_chance_hits:8.2g}"
    alike = f"  ({result.alike} alike)" if result.alike > 1 else ""
    mark = "*" if result.stands_out else " "
    numbers = f"{result.rank:>4}{mark} {result.similarity:7.4f}  {z:8}  {chance:15}"
    return printable(f"{numbers}  {_name(result)}{alike}")


def _name(result: Result) -> str:
    row = result.metadata
    known = [str(row[name]) for name in ("image_path", "caption") if row.get(name)]
    return "  ".join(known) or name_of(row, result.id)


def _last_line(answer: Answer, searcher: Searcher) -> str:
    if not answer.results:
        return f"no result is left; {answer.headline}"
    by = {
        CAPTIONS: "compared with the best matches of other captions",
        NORMAL: "by the mean and covariance of all vectors",
    }
    line = answer.headline
    if any(result.stands_out for result in answer.results):
        line += " (*)"
    if answer.judged_by is not None:
        line += f", {by[answer.judged_by]}"
    if searcher.prepared is None:
        line += "; after `fastclip index`, scores are compared with other captions"
    if searcher.approximate is not None:
        record = searcher.approximate.record
        line += f"; candidates come from {record.key}, {record.recall}; --exact looks at all rows"
    if answer.note is not None:
        line += f"; {answer.note}"
    return printable(line)


def _copy(embeddings: Embeddings, results: list[Result], folder: Path) -> None:
    missing = copy_images(embeddings, [result.id for result in results], folder)
    print(printable(f"copied {len(results) - len(missing):,} images to {folder}"), file=sys.stderr)
    for number, reason in missing.items():
        print(printable(f"row {number} was not copied: {reason}"), file=sys.stderr)
