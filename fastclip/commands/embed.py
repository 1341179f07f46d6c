"""`fastclip embed`: images and texts to files of vectors, which other commands search."""

import argparse
import sys
from pathlib import Path

from fastclip.commands.model_arguments import add_model_arguments, if_stopped, model_of, refusing
from fastclip.data.loading.bad_samples import skipped_summary
from fastclip.data.preprocess import DECODINGS
from fastclip.embeddings.columns import LONGEST_NAME, MOST_COLUMNS, OTHER_COLUMNS
from fastclip.embeddings.embed_source import embed
from fastclip.embeddings.job import Progress
from fastclip.embeddings.layout import METADATA_FORMATS
from fastclip.embeddings.manifest import read_manifest
from fastclip.embeddings.storage import DTYPES
from fastclip.printable import printable
from fastclip.progress import is_watched, progress_bar

EPILOG = """example: a folder of photos, then a part of it on each of two machines, and texts.

  fastclip embed logs/my-run photos embeddings --store f16
  fastclip embed logs/my-run photos parts --shard 0/2     # and 1/2 on the other machine
  fastclip embed ViT-B-32 - words --pretrained laion2b_s34b_b79k < words.txt

The vectors are in embeddings/img_emb/*.npy, what is known of each row in embeddings/metadata, and
what could not be embedded in embeddings/skipped.jsonl. A job that was stopped goes on if the same
command is given again with --resume.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_model_arguments(parser)
    parser.add_argument("source", metavar="SOURCE",
        help="What is embedded: a folder of images, with or without captions beside them; .tar "
        "shards, such as img2dataset writes; a table with a column of paths (.csv, .tsv, "
        ".parquet); a list of paths (.txt); built-in data (digits); or - for lines of text on "
        "standard input.")  # fmt: skip
    parser.add_argument("out", metavar="OUT",
        help="The folder that the vectors are written to, in clip-retrieval's layout.")  # fmt: skip
    group = parser.add_argument_group("what is embedded")
    group.add_argument("--images", action="store_true",
        help="Embed images. Without --images and --texts, what there is of both is "
        "embedded.")  # fmt: skip
    group.add_argument("--texts", action="store_true",
        help="Embed captions. An input without one is then skipped.")  # fmt: skip
    group.add_argument("--image-key", metavar="NAME",
        help="The column of paths of a table, or the suffixes of images, such as "
        "jpg;png.")  # fmt: skip
    group.add_argument("--caption-key", metavar="NAME",
        help="The column of captions of a table, or the suffix of captions.")  # fmt: skip
    group.add_argument("--separator", metavar="TEXT",
        help="What is between the fields of a table. By default it is looked for in the header: a "
        "tab, a comma, a semicolon or |.")  # fmt: skip
    group.add_argument("--shard", metavar="I/N", type=_shard, default=(0, 1),
        help="Embed part I of N, numbered from 0, into a folder inside OUT. When all N are "
        "complete, in any order and on any machines, OUT is read as the whole.")  # fmt: skip
    group = parser.add_argument_group("files")
    group.add_argument("--store", choices=tuple(DTYPES), default="f32",
        help="How vectors are stored: as float32, as float16, or as int8 with a factor for each. "
        "The default is %(default)s.")  # fmt: skip
    group.add_argument("--metadata", choices=METADATA_FORMATS, default="parquet",
        help="How paths, captions and other columns are stored. The default is %(default)s, "
        "which needs pyarrow.")  # fmt: skip
    group.add_argument("--rows-per-file", metavar="N", type=int, default=100_000,
        help="The number of rows of a file; a job that is killed loses the rows of one. The "
        "default is %(default)s.")  # fmt: skip
    group.add_argument("--resume", action="store_true",
        help="Go on where a job with the same model, source and settings was stopped. The files "
        "are then the same as if it had not been. Inputs that were written since are "
        "refused.")  # fmt: skip
    group = parser.add_argument_group("how it is done")
    group.add_argument("--batch-size", metavar="N", type=int, default=256,
        help="The number of images or texts of one forward of the model. The default is "
        "%(default)s.")  # fmt: skip
    group.add_argument("--max-tokens", metavar="N", type=int,
        help="The number of tokens of one forward of a NaFlex model, padding included: the images "
        "of a batch are then sorted by their numbers of patches, and encoded in parts. By default "
        "a batch is one forward.")  # fmt: skip
    group.add_argument("--workers", metavar="N", type=int,
        help="The number of threads that decode images. The default is one for each "
        "core.")  # fmt: skip
    group.add_argument("--decode", choices=DECODINGS, default="exact",
        help="With fast, a JPEG that is much larger than the images of the model is decoded in a "
        "half, a quarter or an eighth of its size, at least twice theirs. Vectors change a "
        "little; `python -m fastclip.benchmarks.embedding` measures how much, and the gain. The "
        "default is %(default)s.")  # fmt: skip
    group.add_argument("--strict", action="store_true",
        help="End at the first input that cannot be embedded.")  # fmt: skip
    group.add_argument("--max-bad-rate", metavar="FRACTION", type=float, default=0.1,
        help="The fraction of inputs that may be skipped because they are missing or damaged. The "
        "default is %(default)s.")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    return refusing("embed", _embed, args)


def _embed(args: argparse.Namespace) -> int:
    chosen = args.images or args.texts
    ready = model_of(args, _tower(args))
    print(f"{ready.name} on {ready.device}, {ready.precision.name}", file=sys.stderr)
    with _Bar() as bar, if_stopped(lambda: _complete(bar.folder)):
        found = embed(
            ready, args.source, args.out,
            images=args.images if chosen else None, texts=args.texts if chosen else None,
            store=args.store, metadata=args.metadata,
            rows_per_file=args.rows_per_file, batch_size=args.batch_size,
            max_tokens=args.max_tokens, workers=args.workers, decode=args.decode, shard=args.shard,
            resume=args.resume, strict=args.strict,
            max_bad_rate=args.max_bad_rate, image_key=args.image_key,
            caption_key=args.caption_key, separator=args.separator, progress=bar.show,
            tell=_tell,
        )  # fmt: skip
    print(_summary(found))
    return 0


def _tower(args: argparse.Namespace) -> str | None:
    """The one tower that is needed, if it is known before the source is read."""
    if args.source == "-" or (args.texts and not args.images):
        return "text"
    return "image" if args.images and not args.texts else None


class _Bar:
    """A progress bar at a terminal; elsewhere nothing.

    Attributes:
        folder: that the job writes to; None before it has begun.
    """

    def __enter__(self) -> "_Bar":
        self.folder: Path | None = None
        self._context, self._shown = None, 0
        return self

    def __exit__(self, *error: object) -> None:
        if self._context is not None:
            self._context.__exit__(*error)

    def show(self, state: Progress) -> None:
        self.folder = state.folder
        seen = state.account.num_seen
        if self._context is None:
            self._context = progress_bar(
                state.total or 0, title="embedding", unit="input", shown=is_watched()
            )
            self._advance = self._context.__enter__()
        self._advance(seen - self._shown, _rates(state))
        self._shown = seen


def _complete(folder: Path | None) -> str:
    """What is complete of a job that was stopped."""
    if folder is None:
        return ""
    rows = read_manifest(folder).rows
    return f"{folder} has {rows:,} complete rows, and the same command with --resume goes on"


def _rates(state: Progress) -> str:
    model = f"model {state.model_rate:,.0f}/s"
    return f"decoding {state.decode_rate:,.0f}/s, {model}" if state.decoded else model


def _summary(state: Progress) -> str:
    lines = [f"wrote {state.folder}: {state.rows:,} rows; {state.account.summary()}"]
    if state.not_of_samples:
        lines.append(skipped_summary(state.not_of_samples))
    if state.account.num_bad:
        lines.append(f"skipped inputs are listed in {state.folder / 'skipped.jsonl'}")
    if state.left_out:
        lines.append(
            f"{state.left_out:,} values of metadata are left out: numbers that are not finite or "
            "are too long, and what is nested too deep"
        )
    if state.gathered:
        lines.append(
            f"{state.gathered:,} values of metadata are in the column {OTHER_COLUMNS}, as JSON: a "
            f"file has at most {MOST_COLUMNS} columns of samples, and names of at most "
            f"{LONGEST_NAME} characters"
        )
    if state.decoded:
        lines.append(
            f"decoding {state.decoded:,} images took {state.decode_seconds:.1f} s of all threads "
            f"({state.decode_rate:,.0f} images/s)"
        )
    if state.padding.num_images:
        lines.append(state.padding.report())
    if state.encoded:
        lines.append(
            f"the model took {state.model_seconds:.1f} s for {state.encoded:,} rows "
            f"({state.model_rate:,.0f} rows/s)"
        )
    else:
        lines.append("nothing was left to embed")
    return "\n".join(map(printable, lines))


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(
            f"must be I/N with I from 0 to N - 1, such as 0/8, got {text!r}"
        )
    return int(index), int(count)


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr)
