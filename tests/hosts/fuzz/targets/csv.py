"""Tables of images and captions: quotes, separators, newlines and bytes that are no text."""

import random
from pathlib import Path

from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.samples import MAX_CAPTION, BadSample
from tests.hosts.fuzz.mutations import mutate_bytes
from tests.support.pair_files import read_all

ALLOWED = (OSError, ValueError)
SUFFIX = ".csv"
WORDS = (
    b'"', b'""', b"\t", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"filepath", b'"\n"', b"a.jpg",
    b"http://x/", b"../", b"/dev/zero", b"\xef\xbb\xbf",
    b'\t"', b'"\t', b"\n" * 3000, b'x"y\n' * 500,
)  # fmt: skip


def seeds() -> list[bytes]:
    plain = [f"{i}.jpg\tcaption {i}" for i in range(9)]
    quoted = [f'"{i}.jpg"\t"a ""caption""\nover lines {i}"' for i in range(9)]
    odd = [
        '1.jpg\tof 3" size',
        '2.jpg\t"not closed',
        "3.jpg\tone\ttoo many",
        '"4.jpg',
        "",
        "5.jpg\t",
    ]
    tables = [plain, quoted, odd, plain + odd + quoted]
    return ["\n".join(["filepath\ttitle", *rows, ""]).encode() for rows in tables]


def mutate(data: bytes, rng: random.Random) -> bytes:
    return mutate_bytes(data, rng, WORDS)


def read(path: Path) -> None:
    for item in read_all(CsvSource(path)):
        if isinstance(item, BadSample):
            assert len(item.key) + len(item.detail) < 2000
        else:
            assert item.caption and len(item.caption) <= MAX_CAPTION and len(item.key) < 1000
