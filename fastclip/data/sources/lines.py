"""Lines of text, such as one program pipes to another: captions without images."""

import hashlib
from typing import BinaryIO

from fastclip.data.sources.samples import BadSample, Sample, with_caption
from fastclip.data.sources.source import Contents, IndexedSource

LARGEST_TEXT = 2**31  # bytes
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineSource(IndexedSource):
    """The lines of a text in UTF-8, each a caption; an empty one is a bad sample.

    Args:
        file: the text; it is read to its end on construction.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has no line, or more than `LARGEST_TEXT` bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        contents = file.read(LARGEST_TEXT + 1)
        if len(contents) > LARGEST_TEXT:
            raise ValueError(f"lines of text must have at most {LARGEST_TEXT:,} bytes together")
        self._digest = hashlib.sha256(contents).hexdigest()
        contents = contents.removeprefix(BYTE_ORDER_MARK).removesuffix(b"\n")
        if not contents:
            raise ValueError("there is no line of text")
        self._lines = contents.split(b"\n")

    def __len__(self) -> int:
        return len(self._lines)

    def contents(self) -> Contents:
        return [("lines", self._digest)]

    def load(self, index: int) -> Sample | BadSample:
        return with_caption(f"line {index + 1}", b"", self._lines[index])
