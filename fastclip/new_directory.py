"""Make directories that are complete or missing.

A directory is written under a temporary name next to its destination and then renamed. An existing
directory is never changed.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fastclip.atomic_file import CannotWrite, temporary_beside


def require_nothing_at(destination: Path) -> None:
    """Check that a path is free.

    Raises:
        FileExistsError: something exists at `destination`, even if it is only a broken link.
    """
    if os.path.lexists(destination):
        raise FileExistsError(f"{destination} exists: choose another path, or move it away")


@contextlib.contextmanager
def new_directory(destination: Path) -> Iterator[Path]:
    """Yield a directory to write to; it becomes `destination` if the context ends without an error.

    Raises:
        FileExistsError: something exists at `destination`.
        CannotWrite: the disk is full, or refuses the write for another reason.
    """
    require_nothing_at(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(destination)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(destination)
    except OSError as error:
        if error.filename is not None or isinstance(error, CannotWrite):
            raise
        raise CannotWrite(destination, error) from error  # a failed write does not name its file
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
