"""Extended headers: read as `tarfile` reads them, and in linear time however many there are."""

import io
import random
import struct
import tarfile

import pytest

from fastclip.data.sources.tar_headers import BLOCK, MAX_EXTENDED, MAX_EXTENDED_BYTES, MAX_NAME
from fastclip.data.sources.tar_members import Damage, Member, read_members
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import assert_resumable, pair_members, read_all, tar_bytes

KINDS = {tarfile.DIRTYPE: "folder", tarfile.REGTYPE: "file"}


class CountingFile(io.BytesIO):
    num_read = 0

    def read(self, size=-1):
        found = super().read(size)
        self.num_read += len(found)
        return found


def header(kind: bytes, name: bytes = b"a.jpg", size: int = 0, more: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.type, info.size = kind, size
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:BLOCK])
    block[345 : 345 + len(more)] = more
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(kind: bytes, contents: bytes) -> bytes:
    return header(kind, size=len(contents)) + contents + bytes(-len(contents) % BLOCK)


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    size += len(str(size + len(str(size))))
    return b"%d %s=%s\n" % (size, key, value)


def members_of(contents: bytes) -> list[Member | Damage]:
    return list(read_members(io.BytesIO(contents), 0))


@pytest.mark.parametrize("seed", range(60))
def test_members_are_those_that_tarfile_reads(seed):
    rng = random.Random(seed)
    file = io.BytesIO()
    format = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for _ in range(rng.randint(1, 6)):
            info = tarfile.TarInfo(rng.choice(("a.jpg", "é" * 20, "b/" * 40 + "c" * 60 + ".txt")))
            if format != tarfile.USTAR_FORMAT and rng.random() < 0.4:
                info.name = rng.choice(("鍵", "x")) * rng.choice((99, 100, 150, 2000))
            info.type = rng.choice((b"0", b"0", b"0", b"5", b"2", b"7", b"3", b"\0", b"Z"))
            info.size = rng.choice((0, 1, 512, 513)) if info.type in b"07\0Z" else 0
            info.linkname = "l" * rng.choice((3, 70)) if info.type == b"2" else ""
            if format == tarfile.PAX_FORMAT and rng.random() < 0.3:
                info.pax_headers = {"comment": "c" * rng.choice((1, 5000)), "mtime": "1.5"}
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    contents = file.getvalue()
    with tarfile.open(fileobj=io.BytesIO(contents)) as tar:
        expected = [
            (i.name, i.offset, i.offset_data)
            + ((i.size, "file") if i.isreg() else (0, "folder" if i.isdir() else "other"))
            for i in tar
        ]
    found = members_of(contents)
    assert [(m.name, m.start, m.data, m.size, m.kind) for m in found] == expected


def test_pax_says_name_and_size_and_the_first_of_two_headers_counts():
    pax = record(b"path", "ключ.jpg".encode()) + record(b"size", b"700")
    contents = extended(b"L", b"long.jpg\0") + extended(b"x", pax) + header(b"0", b"short", 3)
    (found,) = members_of(contents + bytes(1024) + bytes(1024))
    assert (found.name, found.size, found.end - found.data) == ("long.jpg", 700, 1024)
    (found,) = members_of(extended(b"g", pax) + header(b"0", b"short", 3) + bytes(2048))
    assert (found.name, found.size) == ("ключ.jpg", 700)


@pytest.mark.parametrize("key", [b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.major"])
def test_sparse_files_are_no_plain_ones(key):
    pax = record(b"GNU.sparse.name", b"real.jpg") + record(key, b"1")
    (found,) = members_of(extended(b"x", pax) + header(b"0", b"b", 5) + bytes(1024))
    assert (found.name, found.kind, found.size) == ("real.jpg", "other", 0)
    more = bytes(137) + b"\1"  # its table goes on in a block
    (found,) = members_of(header(b"S", b"c", 5, more) + bytes(512) + bytes(512) + bytes(1024))
    assert (found.kind, found.end) == ("other", 3 * BLOCK)


LONG = extended(b"L", b"n" * 600 + b"\0")
SPARSE = header(b"S", more=bytes(137) + b"\1")
SPARSE_BLOCK = bytes(504) + b"\1" + bytes(7)
CHAINS = {
    "long names": LONG * 1200,
    "pax": extended(b"x", record(b"path", b"p" * 400)) * 1200,
    "pax without records": extended(b"x", b"no record at all") * 1200,
    "links": extended(b"K", b"l" * 600) * 1200,
    "too large": extended(b"x", record(b"comment", b"c" * MAX_EXTENDED_BYTES)) * 2,
    "sizes that reach over others": header(b"L", size=MAX_EXTENDED_BYTES) * 4000,
    "sparse tables": (SPARSE + SPARSE_BLOCK * 99 + bytes(512)) * 20,
    "sparse without an end": SPARSE + SPARSE_BLOCK * 6000,
    "magic": b"ustar" * 20_000,
    "headers of a file that is cut": header(b"x", size=2**19) * 500,
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS)
def test_chains_cost_as_much_as_their_bytes_and_are_damage(chain, tmp_path):
    tail = tar_bytes(pair_members(range(2)))
    file = CountingFile(CHAINS[chain] + tail)
    found = list(read_members(file, 0))
    assert file.num_read < 5 * len(file.getvalue()) + 2**20
    assert any(isinstance(item, Damage) or item.kind == "other" for item in found)
    path = tmp_path / "a.tar"
    path.write_bytes(file.getvalue())
    assert_resumable(TarSource(str(path)))


def test_a_chain_that_programs_write_is_read_and_one_longer_loses_its_beginning():
    name = "m" * 300 + ".jpg"
    last = extended(b"L", name.encode()) + header(b"0", b"m", 0)
    (found,) = members_of(LONG * (MAX_EXTENDED - 1) + last + bytes(1024))
    assert found.name == "n" * 600
    damage, found = members_of(LONG * MAX_EXTENDED + last + bytes(1024))
    assert damage == Damage(0, MAX_EXTENDED * len(LONG), "shard is corrupt") and found.name == name


def test_names_without_an_end_are_cut_and_their_dots_do_not_multiply(tmp_path):
    dots = b"a." * (MAX_EXTENDED_BYTES // 2)
    contents = b"".join(
        extended(b"L", dots) + header(b"0", size=3) + b"abc".ljust(BLOCK, b"\0") for _ in range(3)
    )
    (tmp_path / "a.tar").write_bytes(contents + tar_bytes(pair_members(range(1))))
    items = read_all(TarSource(str(tmp_path / "a.tar")))
    assert [item.lost for item in items[:-1]] == [0, 0, 0] and items[-1].caption == "pair 0"
    assert max(len(item.key) for item in items) < 1000
    assert len(members_of(contents)[0].name) == MAX_NAME


def test_numbers_that_are_none_are_damage():
    for field in (b"9" * 11, b"\xff" * 12, b"-1", b"0x10", b"1 1"):
        block = bytearray(header(b"0"))
        block[124:136] = field.ljust(12, b"\0")
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        assert [type(item) for item in members_of(bytes(block) + bytes(1024))] == [Damage]
    block[124:136] = b"\x80" + struct.pack(">3xQ", 5)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert members_of(bytes(block) + bytes(1536))[0].size == 5
