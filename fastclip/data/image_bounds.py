"""Bounds on how much of an image file may be something other than pixels.

Pillow's readers look for the parts of a file one after the other, some of them byte by byte, and
collect what they find: 50 MB of comments, of empty chunks or of padding take minutes, and so do
100 MB of EXIF data. Real images have a few hundred parts.
"""

import math
from collections.abc import Callable
from typing import Any, BinaryIO

FREE_READS = 2**16
BYTES_PER_READ = 2**8  # of the file, for each further read: images in strips need thousands
LARGE_READ = 2**16  # bytes; what comes before the pixels is read in smaller pieces
MAX_BEFORE_PIXELS = 2**24  # bytes
PLAIN = (b"P1", b"P2", b"P3")  # formats of the PPM family with pixels as decimal digits
MAX_PLAIN_BYTES = 2**23
MAX_COMMENTS = 1000  # Pillow copies a MiB after each comment


class BoundedReads:
    """Passes reads on to a file, and raises once there are too many small ones.

    Args:
        refuse: makes the error to raise, from its message.
    """

    def __init__(self, file: BinaryIO, refuse: Callable[[str], Exception]) -> None:
        self._file, self._refuse = file, refuse
        self._end = file.seek(0, 2)
        self._num_reads = FREE_READS + self._end // BYTES_PER_READ
        self._num_bytes: float = MAX_BEFORE_PIXELS

    def read(self, size: int = -1) -> bytes:
        # The file itself states the size, and memory for it would be taken before bytes are there.
        left = max(0, self._end - self._file.tell())
        found = self._file.read(min(size, left) if size >= 0 else left)
        self._num_reads -= 1
        if len(found) < LARGE_READ:
            self._num_bytes -= len(found)
        if min(self._num_reads, self._num_bytes) < 0:
            raise self._refuse("too much of the file is something other than pixels")
        return found

    def begin_pixels(self, more_reads: int = 0) -> None:
        """Lift the bound on bytes from now on, and allow `more_reads` further reads."""
        self._num_bytes = math.inf
        self._num_reads += more_reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def objection_to_plain(file: BinaryIO) -> str | None:
    """Return why a file with pixels as decimal digits would take too long to read, or None."""
    if file.seek(0, 2) > MAX_PLAIN_BYTES:
        return f"its pixels as decimal digits take more than {MAX_PLAIN_BYTES:,} bytes"
    file.seek(0)
    num_comments = 0
    while piece := file.read(2**20):
        num_comments += piece.count(b"#")
    return f"it has more than {MAX_COMMENTS:,} comments" if num_comments > MAX_COMMENTS else None
