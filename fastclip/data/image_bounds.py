"""How much of an image's file may be something else than pixels.

Pillow's readers look for the parts of a file one after the other, some of them byte by byte, and
collect what they find: 50 MB of comments, of empty chunks or of padding take minutes, and so do
100 MB of EXIF data. Files that somebody has made to be looked at have a few hundred parts.
"""

import math
from collections.abc import Callable
from typing import Any, BinaryIO

FREE_READS = 2**16
BYTES_PER_READ = 2**8  # of the file, for each further read: images in strips have thousands
LARGE_READ = 2**16  # bytes; what comes before the pixels is read in pieces that are smaller
MAX_BEFORE_PIXELS = 2**24  # bytes
PLAIN = (b"P1", b"P2", b"P3")  # pixels in digits, of the formats that PPM stands for
MAX_PLAIN_BYTES = 2**23
MAX_COMMENTS = 1000  # behind each of which Pillow copies a MiB


class BoundedReads:
    """Passes a file on, and ends who reads it in crumbs.

    Args:
        refuse: makes the error that a read ends with beyond a bound, from a text.
    """

    def __init__(self, file: BinaryIO, refuse: Callable[[str], Exception]) -> None:
        self._file, self._refuse = file, refuse
        self._end = file.seek(0, 2)
        self._num_reads = FREE_READS + self._end // BYTES_PER_READ
        self._num_bytes: float = MAX_BEFORE_PIXELS

    def read(self, size: int = -1) -> bytes:
        # A size is the file's own word, and memory for it would be taken before there are bytes.
        left = max(0, self._end - self._file.tell())
        found = self._file.read(min(size, left) if size >= 0 else left)
        self._num_reads -= 1
        if len(found) < LARGE_READ:
            self._num_bytes -= len(found)
        if min(self._num_reads, self._num_bytes) < 0:
            raise self._refuse("too much of it is something else than pixels")
        return found

    def begin_pixels(self, more_reads: int = 0) -> None:
        """From here on reads may have any size, and there may be so many more of them."""
        self._num_bytes = math.inf
        self._num_reads += more_reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def objection_to_plain(file: BinaryIO) -> str | None:
    """Say why a file of pixels in digits would take too long to read, or None."""
    if file.seek(0, 2) > MAX_PLAIN_BYTES:
        return f"pixels in digits of more than {MAX_PLAIN_BYTES:,} bytes"
    file.seek(0)
    num_comments = 0
    while piece := file.read(2**20):
        num_comments += piece.count(b"#")
    return f"more than {MAX_COMMENTS:,} comments" if num_comments > MAX_COMMENTS else None
