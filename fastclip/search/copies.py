"""Copy the images that were found into a folder, to look at."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from fastclip.atomic_file import replacing
from fastclip.data.regular_file import open_regular
from fastclip.embeddings.reader import Embeddings

LONGEST_NAME = 200  # bytes: file systems take 255, of which a temporary name needs some


def copy_images(embeddings: Embeddings, rows: Sequence[int], folder: Path) -> dict[int, str]:
    """Copy the images of rows into a folder, as 001_NAME, 002_NAME and so on, in the given order.

    Returns:
        For each row that was not copied the reason: the row has no image file, or its file cannot
        be read.

    Raises:
        CannotWrite: a file or the folder cannot be written.
        FileExistsError: the folder already has a file of such a name; nothing is copied.
    """
    sources: dict[int, Path] = {}
    missing: dict[int, str] = {}
    for row in rows:
        try:
            sources[row] = embeddings.image_file(row)
        except ValueError as error:
            missing[row] = str(error)
    places = {
        row: folder / f"{rank:03d}_{_shortened(sources[row].name)}"
        for rank, row in enumerate(rows, start=1)
        if row in sources
    }
    for place in places.values():
        if place.exists():
            raise FileExistsError(f"{place} exists already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for row, place in places.items():
        try:
            source = open_regular(sources[row])
        except OSError as error:
            missing[row] = str(error)
            continue
        with source, replacing(place) as copy:
            shutil.copyfileobj(source, copy, 2**20)
    return missing


def _shortened(name: str) -> str:
    """Return a name, cut before its suffix if it is too long."""
    stem, suffix = os.path.splitext(name)
    room = max(0, LONGEST_NAME - len(os.fsencode(suffix)))
    return os.fsdecode(os.fsencode(stem)[:room]) + suffix
