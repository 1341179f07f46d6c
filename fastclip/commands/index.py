"""`fastclip index`: compute once for embeddings what makes their searches fast and reliable."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from fastclip.commands.model_arguments import refusing
from fastclip.commands.searched import add_searched_arguments, model_of_embeddings, opened
from fastclip.embeddings.layout import INDEX
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.printable import printable
from fastclip.progress import is_watched, progress_bar
from fastclip.search.approximate.build import build_index
from fastclip.search.approximate.faiss_index import import_faiss
from fastclip.search.captions import read_captions
from fastclip.search.corpus import CALLED
from fastclip.search.export import (
    export_lance,
    export_parquet,
    require_lance,
    require_new,
    require_parquet,
)
from fastclip.search.fingerprint import StaleIndex
from fastclip.search.prepare import UnknownCaptions, prepare
from fastclip.search.prepared import Prepared, open_prepared
from fastclip.search.searcher import chosen_side

REQUIRED = {"lance": require_lance, "parquet": require_parquet}
EXPORTS = {"lance": export_lance, "parquet": export_parquet}
DESCRIPTION = """\
Prepares a folder of embeddings for searches. Search is exact: it compares a query with all vectors,
up to ten million or so, and needs no index for that. This command computes two things once and
keeps them in OUT/index until the vectors change: float32 copies of vectors that are stored as
float16 or int8, and the best matches of a list of captions, which say which scores to expect by
chance. With --faiss, an index of FAISS proposes candidates, which are then scored exactly; the
fraction of the best results that it finds is measured and printed.
"""
EPILOG = """\
for example
    fastclip index embeddings
    fastclip index embeddings --captions queries.txt    # such as your users search for
    fastclip index embeddings --no-captions             # needs no model
    fastclip index embeddings --faiss auto
    fastclip index embeddings --export lance            # for LanceDB: docs/search-engines.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_searched_arguments(parser)
    group = parser.add_argument_group("the comparison with chance")
    group.add_argument("--captions", metavar="FILE",
        help="A file of captions to search for instead of the 500 that come with fastclip, one per "
        "line: texts such as your users search for.")  # fmt: skip
    group.add_argument("--no-captions", action="store_true",
        help="Search for no captions. Scores are then judged by the mean and covariance of the "
        "vectors alone.")  # fmt: skip
    group = parser.add_argument_group("beyond exact search")
    group.add_argument("--faiss", metavar="auto|KEY",
        help="Also build an approximate index, for this key of FAISS's index_factory, such as "
        "IVF4096,Flat; auto chooses a key that suits the number of vectors. It needs the extra "
        "search.")  # fmt: skip
    group.add_argument("--export", choices=tuple(EXPORTS),
        help="Also write vectors and metadata as one table that other search engines read, for "
        "example OUT/index/images.lance. Lance needs the extra lance, Parquet the extra "
        "embed.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("index", _index, args)


def _index(args: argparse.Namespace) -> int:
    if args.no_captions and args.captions is not None:
        raise ValueError("--captions and --no-captions cannot be given together")
    embeddings = opened(args)
    side = chosen_side(embeddings, args.over)
    # Refuse at once, before hours of work, what would be refused at the end.
    if args.faiss is not None:
        import_faiss()
    if args.export is not None:
        require_new(_table_of(args.export, embeddings, side))
        REQUIRED[args.export]()
    done, prepared = "kept", None
    if args.captions is None and args.model is None and not args.no_captions:
        prepared = _current(embeddings, side)
    if prepared is None:
        captions = [] if args.no_captions else read_captions(args.captions)
        done, prepared = "wrote", _prepared(args, embeddings, side, captions)
    told = "no captions were searched for"
    if prepared.captions is not None:
        told = f"{prepared.record.num_captions:,} captions were searched for"
    print(printable(f"{done} {embeddings.folder / INDEX}: {len(side):,} vectors; {told}"))
    if args.faiss is not None:
        with progress_bar(len(side), title="indexing", unit="row", shown=is_watched()) as advance:
            record = build_index(
                embeddings, side.name, args.faiss, progress=_steps(advance), tell=_tell
            )
        print(printable(f"built {record.key}, {record.size:,} bytes: {record.recall}"))
    if args.export is not None:
        print(printable(_export(args.export, embeddings, side)))
    return 0


def _current(embeddings: Embeddings, side: Side) -> Prepared | None:
    """Return what is already prepared for these vectors, if it includes captions."""
    try:
        found = open_prepared(embeddings, side)
    except StaleIndex:
        return None
    return found if found is not None and found.captions is not None else None


def _prepared(
    args: argparse.Namespace, embeddings: Embeddings, side: Side, captions: list[str]
) -> Prepared:
    ready = model_of_embeddings(args, embeddings, "text") if captions else None
    try:
        return prepare(embeddings, side, ready, captions, _tell)
    except UnknownCaptions as error:
        if args.captions is not None:
            raise
        _tell(f"{error}. No captions are searched for; --captions takes a file of others.")
        return prepare(embeddings, side, tell=_tell)


def _table_of(name: str, embeddings: Embeddings, side: Side) -> Path:
    return Path(embeddings.folder, INDEX, f"{CALLED[side.name]}.{name}")


def _export(name: str, embeddings: Embeddings, side: Side) -> str:
    path = _table_of(name, embeddings, side)
    with progress_bar(len(side), title="exporting", unit="row", shown=is_watched()) as advance:
        found = EXPORTS[name](embeddings, path, side.name, progress=_steps(advance))
    told = f"wrote {path}: {found.rows:,} rows of {len(found.columns)} columns"
    if found.num_unusable:
        told += f"; {found.num_unusable:,} vectors, not finite or too long, cannot be found"
    return told


def _steps(advance: Callable[[int, str], None]) -> Callable[[int, int], None]:
    """Return a progress callback of (done, total) that advances a bar by the difference."""
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        advance(done - shown, "")
        shown = done

    return progress


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr)
