"""Images that a table or a list names; their paths are checked before anything is opened."""

import os
from collections.abc import Iterator
from typing import Any

from fastclip.data.quoting import cut
from fastclip.data.sources.samples import BadSample, Sample, even_alone, with_caption
from fastclip.data.sources.source import Source
from fastclip.data.sources.table_conventions import is_address

MAX_PATH = 4096  # characters, of Linux
DOWNLOAD = "download the images first, for example with img2dataset, and give its output"


def objection_to_path(key: str, name: str) -> BadSample | None:
    """Return a bad sample if an image's path cannot name a local file, otherwise None.

    Args:
        key: the key of the row or line with the path.
    """
    if len(name) > MAX_PATH:
        return BadSample(key, "path of the image is too long", f"{len(name)} characters")
    if is_address(name):
        detail = f"{cut(name)}: {DOWNLOAD}"
        return BadSample(key, "image is an address and not a local file", detail)
    return None


def image_paths(source: Source) -> Iterator[str]:
    """Yield the paths of the images that the rows of a source name, in order, repeated ones too."""
    for part in source.parts():
        for entry in source.read(part):
            found = entry.load()
            if isinstance(found, Sample) and "\0" not in found.image:  # no file has that name
                yield found.image


def sample_of_row(
    key: str, folder: str, name: str, caption: Any, lone_images: bool
) -> Sample | BadSample:
    """Make the sample of a row of a table.

    Args:
        folder: the folder that `name`, the path of the image, is relative to.
        lone_images: accept an image without a caption as a sample.
    """
    if (bad := objection_to_path(key, name)) is not None:
        return bad
    path = os.path.join(folder, name)
    found = with_caption(f"{key}, {cut(name)}", path, caption)
    return even_alone(found, path) if lone_images else found
