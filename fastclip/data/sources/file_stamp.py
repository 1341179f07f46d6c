"""Stamps of files on this machine: how large each file is, and when it was written.

A file that was written again has another stamp, even with the same contents; so has a copy, which
`file_marks.py` takes for the same data. Stamps are therefore compared only where work continues on
the machine on which it began: for cached features, and for a job that is resumed.
"""

import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

import numpy as np

from fastclip.data.quoting import quoted_text
from fastclip.data.sources.file_marks import DIGITS, NUM_THREADS

AT_ONCE = 256  # files that one thread looks at


def stamp_of_files(paths: Iterable[str]) -> str:
    """Return one stamp for several files; a link has the stamp of the file that it leads to.

    Args:
        paths: the files; their order counts. Anything but a regular file counts as missing.

    Returns:
        A text that stays the same until one of the files is written; "" if there are no files.

    Example:
        >>> stamp_of_files(["cat.jpg", "dog.jpg"])
        '2 files of 30,461 bytes, the last written 2026-11-30T08:00:00 UTC, 5f1c0e2b9d7a'
    """
    digest, num, total, last = hashlib.sha256(), 0, 0, 0
    paths = iter(paths)
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        while some := list(islice(paths, AT_ONCE * NUM_THREADS)):
            slices = [some[start : start + AT_ONCE] for start in range(0, len(some), AT_ONCE)]
            for found in chain.from_iterable(threads.map(_look_at, slices)):
                digest.update(repr(found).encode())
                if found is not None:
                    size, written = found
                    last = written if num == 0 else max(last, written)
                    num, total = num + 1, total + size
    if num == 0:
        return ""
    when = np.datetime64(last // 10**9, "s")
    return (
        f"{num:,} file{'' if num == 1 else 's'} of {total:,} bytes, the last written {when} UTC, "
        f"{digest.hexdigest()[:DIGITS]}"
    )


def objection_to(before: str, now: str) -> str | None:
    """Return a sentence that files were written between two stamps, or None if they are equal."""
    if before == now:
        return None
    return (
        f"files of the data were written since: there were {quoted_text(before or 'none')}, and "
        f"now there are {quoted_text(now or 'none')}"
    )


def _look_at(paths: list[str]) -> list[tuple[int, int] | None]:
    """Return the size of each file in bytes, and the nanosecond at which it was written."""
    return [_size_and_time(path) for path in paths]


def _size_and_time(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a ValueError if no file can have that name
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
