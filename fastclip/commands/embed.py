"""`fastclip embed`: write the vectors of images and texts to files, for other commands."""

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

EPILOG = """for example: a folder of photos; half of it on each of two machines; and lines of text

  fastclip embed logs/my-run photos embeddings --store f16
  fastclip embed logs/my-run photos parts --shard 0/2     # and 1/2 on the other machine
  fastclip embed ViT-B-32 - words --pretrained laion2b_s34b_b79k < words.txt

The vectors of images are in embeddings/img_emb/*.npy, the path, caption and other columns of each
row in embeddings/metadata, and the inputs that could not be embedded in embeddings/skipped.jsonl.
If a job was stopped, the same command with --resume continues it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_model_arguments(parser)
    parser.add_argument("source", metavar="SOURCE",
        help="What to embed: a folder of images, with or without captions next to them; .tar "
        "shards, such as img2dataset writes; a table with a column of paths (.csv, .tsv, "
        ".parquet); a list of paths (.txt); the built-in digits; or -, for lines of text on "
        "standard input.")  # fmt: skip
    parser.add_argument("out", metavar="OUT",
        help="The folder to write the vectors to, in clip-retrieval's layout.")  # fmt: skip
    group = parser.add_argument_group("what to embed")
    group.add_argument("--images", action="store_true",
        help="Embed images. Without --images and --texts, whatever SOURCE has is "
        "embedded.")  # fmt: skip
    group.add_argument("--texts", action="store_true",
        help="Embed captions. An input without a caption is then skipped.")  # fmt: skip
    group.add_argument("--image-key", metavar="NAME",
        help="The column of paths in a table, or the suffixes of image files, such as "
        "jpg;png.")  # fmt: skip
    group.add_argument("--caption-key", metavar="NAME",
        help="The column of captions in a table, or the suffix of caption files.")  # fmt: skip
    group.add_argument("--separator", metavar="TEXT",
        help="The separator of the columns of a table. By default the header shows which it is: a "
        "tab, a comma, a semicolon or |.")  # fmt: skip
    group.add_argument("--shard", metavar="I/N", type=_shard, default=(0, 1),
        help="Embed only part I of N, numbered from 0, into a folder inside OUT. When all N parts "
        "are complete, in any order and on any machines, OUT is read as a whole.")  # fmt: skip
    group = parser.add_argument_group("the files")
    group.add_argument("--store", choices=tuple(DTYPES), default="f32",
        help="How vectors are stored: as float32, as float16, or as int8 with a factor each. "
        "The default is %(default)s.")  # fmt: skip
    group.add_argument("--metadata", choices=METADATA_FORMATS, default="parquet",
        help="How paths, captions and other columns are stored. The default is %(default)s, "
        "which needs pyarrow.")  # fmt: skip
    group.add_argument("--rows-per-file", metavar="N", type=int, default=100_000,
        help="The number of rows in each file. A job that is killed loses the rows of one file. "
        "The default is %(default)s.")  # fmt: skip
    group.add_argument("--resume", action="store_true",
        help="Continue a stopped job that has the same model, source and settings. The files "
        "are then the same as if it had not stopped. Inputs that have changed since are "
        "refused.")  # fmt: skip
    group = parser.add_argument_group("how to embed")
    group.add_argument("--batch-size", metavar="N", type=int, default=256,
        help="The number of images or texts in one forward pass of the model. The default is "
        "%(default)s.")  # fmt: skip
    group.add_argument("--max-tokens", metavar="N", type=int,
        help="The most tokens in one forward pass of a NaFlex model, padding included: the images "
        "of a batch are then sorted by their number of patches, and encoded in parts. By default "
        "a batch is one forward pass.")  # fmt: skip
    group.add_argument("--workers", metavar="N", type=int,
        help="The number of threads that decode images. The default is one per "
        "core.")  # fmt: skip
    group.add_argument("--decode", choices=DECODINGS, default="exact",
        help="How JPEGs are decoded. With fast, a JPEG that is much larger than the model's images "
        "is decoded at a half, a quarter or an eighth of its size, but at least at twice theirs. "
        "Vectors change a little; `python -m fastclip.benchmarks.embedding` measures by how much, "
        "and how much faster it is. The default is %(default)s.")  # fmt: skip
    group.add_argument("--strict", action="store_true",
        help="Stop at the first input that cannot be embedded.")  # fmt: skip
    group.add_argument("--max-bad-rate", metavar="FRACTION", type=float, default=0.1,
        help="The largest fraction of inputs that may be skipped because they are missing or "
        "damaged. The default is %(default)s.")  # fmt: skip


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
    """Return the only tower that is needed, if that is clear before the source is read."""
    if args.source == "-" or (args.texts and not args.images):
        return "text"
    return "image" if args.images and not args.texts else None


class _Bar:
    """Shows a progress bar at a terminal, and nothing elsewhere.

    Attributes:
        folder: where the job writes; None until the job begins.
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
    """Say how many rows of a stopped job are complete."""
    if folder is None:
        return ""
    rows = read_manifest(folder).rows
    return f"{folder} has {rows:,} complete rows; the same command with --resume continues the job"


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
            "are too long, and values that are nested too deeply"
        )
    if state.gathered:
        lines.append(
            f"{state.gathered:,} values of metadata are in the column {OTHER_COLUMNS}, as JSON: a "
            f"file has at most {MOST_COLUMNS} columns of metadata, with names of at most "
            f"{LONGEST_NAME} characters"
        )
    if state.decoded:
        lines.append(
            f"decoding {state.decoded:,} images took {state.decode_seconds:.1f} s with all threads "
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
