"""One header of a tar file, together with the extended headers before it.

A member may begin with GNU headers (`L` and `K`, which hold a long name) and pax headers (`x`, `X`
and `g`, which hold a name, a size and more), and a sparse file has blocks of its own after its
header. Each is read once and up to a bound, whatever size it states, and a refusal says how far
the file was read: a chain of any length, whole or damaged, takes time in proportion to its bytes.
If several headers of a chain state the same value, the first one counts.
"""

import re
from typing import BinaryIO, NamedTuple

BLOCK = 512
MAX_EXTENDED = 8  # headers before one member; programs write two or three
MAX_EXTENDED_BYTES = 2**20  # of one extended header
MAX_NAME = 4096  # characters, as long as a path of Linux may be; the rest is cut off
SPARSE_BLOCKS = MAX_EXTENDED_BYTES // BLOCK

NAME, SIZE, CHECKSUM, TYPE, PREFIX = (
    slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157), slice(345, 500)
)  # fmt: skip
GNU_SPARSE_GOES_ON, SPARSE_BLOCK_GOES_ON = 482, 504
LONG_NAME, LONG_LINK, SPARSE, FOLDER = b"L", b"K", b"S", b"5"
PAX = (b"x", b"X", b"g")
FILES = (b"0", b"\0", b"7")
WITHOUT_CONTENTS = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
ASCII = bytes(range(128))
OCTAL = re.compile(rb"\s*([0-7]*)\s*")
RECORD = re.compile(rb"([0-9]{1,8}) ([^=]{1,1024})=")
# Each of these keys says that the contents are pieces of a file with holes.
SPARSE_KEYS = (b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.major")


class Header(NamedTuple):
    name: str
    data: int  # offset of the contents
    size: int  # in bytes; 0 if it is not a file
    end: int  # offset of the next header
    kind: str  # "file", "folder", or "other": a link, a device, a sparse file


class Refusal(NamedTuple):
    end: int  # up to here nothing needs to be read again
    is_cut: bool = False  # the file ends before the header does


class _Extended:
    """The values of the extended headers before a member."""

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.size: int | None = None
        self.is_sparse = False

    def add(self, kind: bytes, contents: bytes) -> bool:
        """Add the contents of a header, padding included; return whether they could be read."""
        if kind == LONG_NAME and self.name is None:
            self.name = contents.split(b"\0", 1)[0]
        return kind not in PAX or self._add_pax(contents)

    def _add_pax(self, contents: bytes) -> bool:
        values, at = {}, 0
        while at < len(contents) and contents[at]:
            record = RECORD.match(contents, at)
            end = at + int(record[1]) if record else 0
            if record is None or not record.end() < end <= len(contents):
                return False
            values[record[2]] = contents[record.end() : end - 1]
            at = end
        size = values.get(b"size")
        if size is not None and not (size.isdigit() and len(size) < 20):
            return False
        if self.size is None and size is not None:
            self.size = int(size)
        name = values.get(b"GNU.sparse.name", values.get(b"path"))
        self.name = name if self.name is None else self.name
        self.is_sparse |= any(key in values for key in SPARSE_KEYS)
        return True


def is_header(data: bytes, at: int = 0) -> bool:
    """Return whether a block with a valid checksum is at this offset of the data."""
    stated = _number(data[at + CHECKSUM.start : at + CHECKSUM.stop])
    if stated is None:
        return False
    block = data[at : at + BLOCK]
    rest = block[: CHECKSUM.start] + block[CHECKSUM.stop :]
    unsigned = sum(rest) + 8 * ord(" ")
    # Some old programs summed signed characters.
    return stated in (unsigned, unsigned - 256 * len(rest.translate(None, ASCII)))


def read_header(file: BinaryIO, start: int) -> Header | Refusal:
    """Read the header at offset `start` of a file; return a Refusal if there is none."""
    extended, at = _Extended(), start
    for number in range(MAX_EXTENDED + 1):
        file.seek(at)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            return Refusal(at, is_cut=True)
        if not is_header(block):
            return Refusal(at)
        kind, size = block[TYPE], _number(block[SIZE])
        if size is None:
            return Refusal(at + BLOCK)
        if kind not in (LONG_NAME, LONG_LINK, *PAX):
            return _member(file, block, at, extended)
        if number == MAX_EXTENDED:
            break
        if size > MAX_EXTENDED_BYTES:
            return Refusal(at + BLOCK)
        contents = file.read(_padded(size))
        if len(contents) < size:
            return Refusal(at + BLOCK, is_cut=True)
        if not extended.add(kind, contents):
            return Refusal(at + BLOCK)
        at += BLOCK + _padded(size)
    return Refusal(at)


def _member(file: BinaryIO, block: bytes, at: int, extended: _Extended) -> Header | Refusal:
    """Return the header of a member; values in `extended` take precedence."""
    kind, size, data = block[TYPE], _number(block[SIZE]), at + BLOCK
    name = _name(block) if extended.name is None else extended.name
    is_folder = kind == FOLDER or (kind == b"\0" and _name(block).endswith(b"/"))
    size = size if extended.size is None else extended.size
    if kind == SPARSE:
        goes_on, num = block[GNU_SPARSE_GOES_ON], 0
        while goes_on:
            block, num = file.read(BLOCK), num + 1
            data += len(block)
            if len(block) < BLOCK or num > SPARSE_BLOCKS:
                return Refusal(data, is_cut=len(block) < BLOCK)
            goes_on = block[SPARSE_BLOCK_GOES_ON]
    end = data if is_folder or kind in WITHOUT_CONTENTS else data + _padded(size)
    shown = name.rstrip(b"/") if is_folder else name
    text = shown[: 4 * MAX_NAME].decode(errors="surrogateescape")[:MAX_NAME]
    if kind in FILES and not is_folder and not extended.is_sparse:
        return Header(text, data, size, end, "file")
    return Header(text, data, 0, end, "folder" if is_folder else "other")


def _name(block: bytes) -> bytes:
    name, prefix = (block[part].split(b"\0", 1)[0] for part in (NAME, PREFIX))
    return prefix + b"/" + name if prefix and block[TYPE] != SPARSE else name


def _number(field: bytes) -> int | None:
    """Return a number of a header, octal, or binary after a byte of 128; None if negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = OCTAL.fullmatch(field.split(b"\0", 1)[0])
    return int(match[1] or b"0", 8) if match else None


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
