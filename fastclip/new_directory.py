"""Directories that are complete or not there.

What is written is made next to its place and renamed, and one that exists already is never touched.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fastclip.atomic_file import CannotWrite, temporary_beside


def require_nothing_at(destination: Path) -> None:
    """
    Raises:
        FileExistsError: there is something at `destination`, or a link to nothing.
    """
    if os.path.lexists(destination):
        raise FileExistsError(f"{destination} exists: choose another place, or move it away")


@contextlib.contextmanager
def new_directory(destination: Path) -> Iterator[Path]:
    """A directory to write to, which becomes `destination` at the end, unless the context fails.

    Raises:
        FileExistsError: there is something at `destination`.
        CannotWrite: the disk is full, or refuses otherwise.
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
        raise CannotWrite(destination, error) from error  # a write alone does not know its file
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
