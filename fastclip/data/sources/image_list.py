"""A text file with the path of an image on each line."""

import os
from collections.abc import Iterator

from fastclip.data.regular_file import read_regular
from fastclip.data.sources.file_marks import mark_of_table
from fastclip.data.sources.named_images import image_paths, objection_to_path
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import Contents, IndexedSource
from fastclip.data.sources.table_conventions import (
    NUM_BYTES_LOOKED_AT,
    folder_of,
    objection_to,
)

LARGEST_LIST = 2**31  # bytes


class ImageListSource(IndexedSource):
    """The images that a list in UTF-8 names, without captions; empty lines are ignored.

    Paths are absolute, or relative to the folder of the list or to the working directory. The first
    image that exists in one of the two folders decides for all lines.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not text in UTF-8, has no line or more than `LARGEST_LIST` bytes, or
            a relative path names different images in the two folders.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        contents = read_regular(self.path, LARGEST_LIST)
        if objection := objection_to(contents[:NUM_BYTES_LOOKED_AT]):
            raise ValueError(f"a list of images must be text, but {self.path!r} {objection}")
        contents = contents.removeprefix(b"\xef\xbb\xbf")
        self._lines = [line for line in contents.splitlines() if line.strip()]
        if not self._lines:
            raise ValueError(f"{self.path!r} names no image")
        first = [self._name(i) for i in range(min(64, len(self)))]
        self._folder = folder_of([name for name in first if isinstance(name, str)], self.path)

    def __len__(self) -> int:
        return len(self._lines)

    def contents(self) -> Contents:
        """Return the mark of the list; the images that it names do not count."""
        return [("list", mark_of_table(self.path))]

    def files(self) -> Iterator[str]:
        yield self.path
        yield from image_paths(self)

    def load(self, index: int) -> Sample | BadSample:
        name = self._name(index)
        if isinstance(name, BadSample):
            return name
        return Sample(name, os.path.join(self._folder, name), "")

    def _name(self, index: int) -> str | BadSample:
        key = f"{os.path.basename(self.path)}, path {index + 1}"
        try:
            name = self._lines[index].decode().strip()
        except UnicodeError as error:
            return BadSample(key, "path is not UTF-8", str(error))
        return objection_to_path(key, name) or name
