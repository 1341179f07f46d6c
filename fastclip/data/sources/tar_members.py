"""The members of a tar file from any of them on, past whatever is damaged.

The standard `tarfile` reads each header. What it takes for the end of the file when it is not
(zeros, a header that is not one, a file that stops early) is found here: what is skipped is
reported as damage, and reading goes on at the next header with a valid checksum.
"""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from fastclip.data.sources.source import END

BLOCK = tarfile.BLOCKSIZE
MAGIC, MAGIC_AT = b"ustar", 257  # of every header that today's programs write
WINDOW = 2**20  # bytes searched at a time


class Member(NamedTuple):
    name: str
    start: int  # offset of the header, or of the long name that precedes it
    data: int  # offset of the contents
    size: int  # in bytes; 0 if it is not a file
    end: int  # offset of the next header
    kind: str = "file"  # or "folder", or "other": a link, a device, a sparse file


class Damage(NamedTuple):
    start: int
    end: int  # where reading goes on, or END
    reason: str


def read_members(file: BinaryIO, start: int) -> Iterator[Member | Damage]:
    """Yield what follows offset `start`, which is 0 or the end of a member or of damage."""
    file_size = file.seek(0, 2)
    while start != END:
        file.seek(start)
        header = file.read(BLOCK)
        if len(header) == BLOCK and not any(header):
            found = _behind_zeros(file, start, file_size)
            if found is None:
                return
        elif len(header) < BLOCK:
            found = Damage(start, END, "shard is truncated")
        else:
            found = _member_at(file, start, file_size) or _behind_damage(file, start, file_size)
        yield found
        start = found.end


def _member_at(file: BinaryIO, start: int, file_size: int) -> Member | Damage | None:
    file.seek(start)
    # tarfile's parsers of damaged numbers and extended headers raise whatever they come across.
    try:
        tar = tarfile.open(fileobj=file, mode="r:", encoding="utf-8")
        info = tar.next()
    except Exception:
        return None
    if info is None or info.size < 0:
        return None
    if info.isreg() and not info.issparse():
        size, kind = info.size, "file"
        end = info.offset_data + -(-size // BLOCK) * BLOCK
    else:
        size, kind = 0, "folder" if info.isdir() else "other"
        end = tar.offset
    if max(info.offset_data + size, end - BLOCK + 1) > file_size:
        return Damage(start, END, "shard is truncated")
    return Member(info.name, start, info.offset_data, size, end, kind)


def _behind_zeros(file: BinaryIO, start: int, file_size: int) -> Damage | None:
    """Return None if there are only zeros from here on: the proper end."""
    file.seek(start)
    while window := file.read(WINDOW):
        if window.strip(b"\0"):
            return _behind_damage(file, start, file_size)
    return None


def _behind_damage(file: BinaryIO, start: int, file_size: int) -> Damage:
    """Look for the next header, at any offset: bytes may have been lost or added."""
    at = start + 1
    while at + BLOCK <= file_size:
        file.seek(at)
        window = file.read(WINDOW)
        magic = window.find(MAGIC, MAGIC_AT)
        while magic >= 0:
            header = at + magic - MAGIC_AT
            if _member_at(file, header, file_size) is not None:
                return Damage(start, header, "shard is corrupt")
            magic = window.find(MAGIC, magic + 1)
        at += WINDOW - BLOCK  # a header may lie across the edge of a window
    return Damage(start, END, "shard is corrupt")
