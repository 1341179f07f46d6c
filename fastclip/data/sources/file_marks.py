"""Marks by which data is recognised again, without reading all of it.

    a shard      its size and its first 64 KiB
    a folder     names and sizes of the files that count, and the beginnings of 256 of them
    a table      all of its bytes

It does not matter where files are or when they were written: a copy is the same data. A mark opens
each shard once (sixteen at a time) and asks for the size of each file of a folder; a run does that
once for all of its ranks.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fastclip.data.regular_file import open_regular

BEGINNING = 2**16  # bytes
NUM_OPENED = 256  # files of a folder
NUM_THREADS = 16  # they wait for a disk or a network
DIGITS = 12  # of a digest


def marks_of_shards(paths: Sequence[str]) -> list[str]:
    """Return the mark of each file; for a missing or unreadable file, the mark says so."""
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        return list(threads.map(_mark, paths))


def mark_of_listing(root: str, names: Sequence[str]) -> str:
    """Return one mark for the files of a folder."""
    digest, total = hashlib.sha256(), 0
    opened = set(range(0, len(names), max(1, len(names) // NUM_OPENED)))
    marks = iter(marks_of_shards([os.path.join(root, names[i]) for i in sorted(opened)]))
    for i, name in enumerate(names):
        size = _size(os.path.join(root, name))
        total += max(size, 0)
        digest.update(repr((name, size, next(marks) if i in opened else "")).encode())
    return f"{len(names):,} files of {total:,} bytes, {digest.hexdigest()[:DIGITS]}"


def mark_of_table(path: str) -> str:
    """Return the mark of a text file.

    Raises:
        OSError: the file cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            size += len(chunk)
    return f"{size:,} bytes, {digest.hexdigest()[:DIGITS]}"


def _mark(path: str) -> str:
    size = _size(path)
    if size < 0:
        return "no file"
    try:
        with open_regular(path) as file:
            beginning = file.read(BEGINNING)
    except OSError as error:
        return f"{size:,} bytes, unreadable: {error.strerror}"
    return f"{size:,} bytes, {hashlib.sha256(beginning).hexdigest()[:DIGITS]}"


def _size(path: str) -> int:
    """Return the size of a regular file, -1 for anything else: opening a pipe would wait."""
    try:
        found = os.stat(path)
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1
