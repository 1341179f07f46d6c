"""Opens a file again for each reading, and checks that it is still the same file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastclip.data.regular_file import open_regular


class FileChanged(OSError):
    """A file has changed since it was first opened; the message has its path."""


class SameFile:
    """A file that is recognised by its inode, its size and the time when it was written.

    Folders may have more files than a process may hold open, so that files are closed in between.
    Vectors that are mapped into memory stay those of the old file if the file is replaced; rows of
    the new file would not belong to them.

    Raises:
        OSError: the file cannot be read.

    Example:
        >>> rows = SameFile(Path("embeddings/metadata/metadata_0.jsonl"))
        >>> with rows.opened() as file:
        ...     line = file.readline()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            self._identity = _identity_of(file)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file for reading bytes.

        Raises:
            FileChanged: the file is gone or was replaced.
            OSError: the file cannot be read.
        """
        try:
            file = open_regular(self.path)
        except FileNotFoundError:
            raise FileChanged(
                f"{self.path} was removed after it was opened: open the embeddings again"
            ) from None
        with file:
            if _identity_of(file) != self._identity:
                raise FileChanged(
                    f"{self.path} has changed since it was opened: open the embeddings again"
                )
            yield file


def _identity_of(file: BinaryIO) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns
