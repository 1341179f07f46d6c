"""Pairs that lack something or hold what nobody can read, and good ones, in files of every kind."""

import random
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from tests.support.images import png_header
from tests.support.pair_files import image_bytes, tar_bytes


class Pair(NamedTuple):
    """The contents of its files, None for one that is missing, and why it is bad, if it is."""

    image: bytes | None
    caption: bytes | None
    reason: str | None = None


def good(numbers: range) -> list[Pair]:
    return [Pair(image_bytes(i), b"pair %d" % i) for i in numbers]


def bad_of_each_kind(rng: random.Random) -> list[Pair]:
    image, caption = image_bytes(255), b"a caption"
    images = [
        b"", rng.randbytes(rng.choice((1, 15, 3000))), image[: rng.randrange(1, 45)],
        bytes(2000), b"<html>404</html>", png_header(60_000, 60_000),
    ]  # fmt: skip
    not_utf8 = [b"caf\xe9", b"\xff\xfea\0", b"lone \xed\xa0\x80 surrogate", b"cut \xf0\x9f\x98"]
    return [
        *(Pair(contents, caption, "unusable image") for contents in images),
        *(Pair(image, text, "caption is not UTF-8") for text in not_utf8),
        *(Pair(image, text, "empty caption") for text in (b"", b" \r\n\t", b"\xe2\x80\x83")),
        Pair(None, caption, "no image"),
        Pair(image, None, "no caption"),
    ]


def files_of(pairs: list[Pair]) -> list[tuple[str, bytes]]:
    return [
        (f"{i:05d}.{suffix}", contents)
        for i, pair in enumerate(pairs)
        for suffix, contents in (("png", pair.image), ("txt", pair.caption))
        if contents is not None
    ]


def write_shards(folder: Path, pairs: list[Pair]) -> Path:
    files = files_of(pairs)
    (folder / "000.tar").write_bytes(tar_bytes([f for f in files if f[0] < "00010"]))
    (folder / "001.tar").write_bytes(tar_bytes([f for f in files if f[0] >= "00010"]))
    return folder


def write_folder(folder: Path, pairs: list[Pair]) -> Path:
    for name, contents in files_of(pairs):
        (folder / name).write_bytes(contents)
    return folder


def write_table(folder: Path, pairs: list[Pair]) -> Path:
    write_folder(folder, [pair._replace(caption=None) for pair in pairs])
    rows = [
        b"%05d.png" % i + (b"" if pair.caption is None else b"\t" + quoted(pair.caption))
        for i, pair in enumerate(pairs)
    ]
    (folder / "pairs.tsv").write_bytes(b"\n".join([b"filepath\ttitle", *rows]))
    return folder / "pairs.tsv"


def quoted(field: bytes) -> bytes:
    return b'"' + field.replace(b'"', b'""') + b'"'


WRITERS = [write_shards, write_folder, write_table]
TABLE_REASONS = {
    "no image": "missing image file", "no caption": "wrong number of fields",
    "caption is not UTF-8": "row is not UTF-8",
}  # fmt: skip


def reasons(pairs: list[Pair], write: Callable) -> Counter:
    found = [pair.reason for pair in pairs if pair.reason is not None]
    return Counter(TABLE_REASONS.get(r, r) if write is write_table else r for r in found)


def shard_with_starts(pairs: list[Pair]) -> tuple[bytes, list[int]]:
    """Where each pair begins, and the last one ends: all their files fit into a block of 512."""
    return tar_bytes(files_of(pairs)), [2048 * i for i in range(len(pairs) + 1)]


def table_with_starts(pairs: list[Pair]) -> tuple[bytes, list[int]]:
    header = b"filepath\ttitle\n"
    rows = [b"%05d.png\t%b\n" % (i, pair.caption) for i, pair in enumerate(pairs)]
    return header + b"".join(rows), list(accumulate(map(len, rows), initial=len(header)))


# With | for the separator; of a table `pairs.csv` beside an image `x.png`.
BAD_ROWS = {
    b'x.png|"never closed': "quote is not closed",
    b'y.png|"': "quote is not closed",
    b'"x.png|never closed': "quote is not closed",
    b"x.png": "wrong number of fields",
    b"x.png|one|two": "wrong number of fields",
    b'x.png|"one"|"two"': "wrong number of fields",
    b"\0\0\0": "wrong number of fields",
    b"x.png|caf\xe9": "row is not UTF-8",
    b'x.png|""': "empty caption",
    b"|no name": "no image",
    b"missing.png|caption": "missing image file",
    b"missing/x.png|caption": "missing image file",
    b"x\0.png|NUL": "unusable image",
    b"x" * 5000 + b".png|long name": "path of the image is too long",
    b".|a folder": "unusable image",
    b"pairs.csv|itself": "unusable image",
    b"x.png|" + b"long" * 2**18: "row is too long",
}
