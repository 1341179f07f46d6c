"""Reads the members of a tar file from any member on, and skips damage.

`tar_headers.py` reads each header. This module handles what only looks like the end of the file
(zeros, an invalid header, a file that stops early): it reports what it skips as damage, and goes on
at the next header with a valid checksum.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from fastclip.data.sources.source import END
from fastclip.data.sources.tar_headers import BLOCK, Header, Refusal, is_header, read_header

MAGIC, MAGIC_AT = b"ustar", 257  # in every header that today's programs write
WINDOW = 2**20  # bytes searched at a time, at most


class Member(NamedTuple):
    name: str
    start: int  # offset of the header, or of the long name that precedes it
    data: int  # offset of the contents
    size: int  # in bytes; 0 if the member is not a file
    end: int  # offset of the next header
    kind: str = "file"  # or "folder", or "other": a link, a device, a sparse file


class Damage(NamedTuple):
    start: int
    end: int  # where reading goes on, or END
    reason: str


def read_members(file: BinaryIO, start: int) -> Iterator[Member | Damage]:
    """Yield what follows offset `start`, which must be 0 or the end of a member or of damage."""
    damage, file_size = None, file.seek(0, 2)
    for found in _each_member(file, start, file_size):
        # Bytes within damage that only look like a header do not end the damage.
        if damage and isinstance(found, Damage) and found.reason == damage.reason:
            damage = damage._replace(end=found.end)
            continue
        if damage:
            yield damage
        damage = found if isinstance(found, Damage) else None
        if not damage:
            yield found
    if damage:
        yield damage


def _each_member(file: BinaryIO, start: int, file_size: int) -> Iterator[Member | Damage]:
    while start != END:
        file.seek(start)
        header = file.read(BLOCK)
        if len(header) == BLOCK and not any(header):
            if _only_zeros_from(file, start):
                return
            found = _behind_damage(file, start, start + 1, file_size)
        else:
            found = _member_at(file, start, file_size)
        yield found
        start = found.end


def _member_at(file: BinaryIO, start: int, file_size: int) -> Member | Damage:
    header = read_header(file, start)
    if isinstance(header, Refusal):
        if header.is_cut:
            return Damage(start, END, "shard is truncated")
        return _behind_damage(file, start, max(start + 1, header.end), file_size)
    if _is_cut(header, file_size):
        return Damage(start, END, "shard is truncated")
    return Member(header.name, start, header.data, header.size, header.end, header.kind)


def _is_cut(header: Header, file_size: int) -> bool:
    """Return whether the file ends before the contents and their padding do."""
    return max(header.data + header.size, header.end - BLOCK + 1) > file_size


def _only_zeros_from(file: BinaryIO, start: int) -> bool:
    """Return whether only zeros follow, which is the proper end."""
    file.seek(start)
    while window := file.read(WINDOW):
        if window.strip(b"\0"):
            return False
    return True


def _behind_damage(file: BinaryIO, start: int, at: int, file_size: int) -> Damage:
    """Look for the next header from `at` on, at any offset: bytes may have been lost or added."""
    num_searched = 4 * BLOCK  # the next header is often close
    while at + BLOCK <= file_size:
        file.seek(at)
        window = file.read(num_searched)
        magic = window.find(MAGIC, MAGIC_AT)
        while 0 <= magic <= len(window) - (BLOCK - MAGIC_AT):
            header = magic - MAGIC_AT
            if is_header(window, header):
                return Damage(start, at + header, "shard is corrupt")
            magic = window.find(MAGIC, magic + 1)
        at += num_searched - BLOCK  # a header may lie across the edge of a window
        num_searched = min(2 * num_searched, WINDOW)
    return Damage(start, END, "shard is corrupt")
