"""Tar shards: their headers, extended ones too, with checksums that are mostly right."""

import io
import random
import tarfile
from pathlib import Path

from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.tar_shards import TarSource
from tests.hosts.fuzz.mutations import mutate_bytes
from tests.support.pair_files import pair_members, read_all, tar_bytes

ALLOWED = (OSError, ValueError)
SUFFIX = ".tar"
BLOCK = tarfile.BLOCKSIZE
CHECKSUM = slice(148, 156)
SIZES = (b"00000000000", b"77777777777", b"\x80" + b"\xff" * 10, b"\xff" * 11, b"00000000777", b"")
TYPES = b"01234567xgLKSDNMV\0"


def seeds() -> list[bytes]:
    long = [
        (f"{'folder/' * 30}{i}.{kind}", b"contents") for i in range(3) for kind in ("jpg", "txt")
    ]
    shards = [tar_bytes(pair_members(range(3)))]
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        shards.append(tar_bytes(long, format))
    return [*shards, _sparse("1.0"), _sparse("0.1"), _links()]


def read(path: Path) -> None:
    for item in read_all(TarSource(str(path))):
        assert isinstance(item, Sample | BadSample)
        assert len(item.key) < 2**21 and (isinstance(item, Sample) or len(item.detail) < 4000)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change headers, repeat them, and mostly repair their checksums."""
    blocks = [data[i : i + BLOCK] for i in range(0, len(data), BLOCK)]
    for _ in range(rng.choice((1, 2, 4, 10))):
        i = rng.randrange(len(blocks))
        if blocks[i][257:262] != b"ustar":
            blocks[i] = mutate_bytes(blocks[i], rng, (b"path=", b"size=9 ", b"GNU.sparse.", b"\n"))
        elif rng.random() < 0.2:
            blocks[i:i] = blocks[i : i + rng.choice((1, 2))] * rng.choice((1, 3, 9, 100, 500))
        else:
            blocks[i] = _header(bytearray(blocks[i]), rng)
    contents = b"".join(blocks)
    return mutate_bytes(contents, rng) if rng.random() < 0.3 else contents


def _header(block: bytearray, rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.35:
        block[124:136] = rng.choice(SIZES).ljust(12, b"\0")
    elif kind < 0.7:
        block[156] = rng.choice(TYPES)
    else:
        block[:] = mutate_bytes(bytes(block), rng)[:BLOCK].ljust(BLOCK, b"\0")
    if rng.random() < 0.8:
        block[CHECKSUM] = b" " * 8
        block[CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _sparse(version: str) -> bytes:
    """A sparse file as GNU tar writes it into extended headers."""
    file = io.BytesIO()
    fields = {"GNU.sparse.major": version[0], "GNU.sparse.minor": version[2],
              "GNU.sparse.name": "0.jpg", "GNU.sparse.realsize": "99999",
              "GNU.sparse.size": "99999", "GNU.sparse.map": "0,3,99,4",
              "GNU.sparse.numblocks": "2"}  # fmt: skip
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, headers in (("0.jpg", fields), ("0.txt", {"comment": "a caption"})):
            info = tarfile.TarInfo(name)
            info.pax_headers, info.size = headers, 1024
            tar.addfile(info, io.BytesIO(b"2\n0\n3\n99\n4\n".ljust(1024, b"\0")))
    return file.getvalue()


def _links() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for i, kind in enumerate(
            (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
        ):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.type, info.linkname = kind, "../../etc/passwd" * 9
            tar.addfile(info)
    return file.getvalue()
