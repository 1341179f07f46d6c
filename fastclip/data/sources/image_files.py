"""The images that a person names: files, and folders with all that is below."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from fastclip.data.quoting import first_line
from fastclip.data.sources.file_names import is_image_name, suffix_of
from fastclip.data.sources.folder_files import list_folder
from fastclip.data.sources.samples import BadSample


def image_files(paths: Iterable[str], others: Counter[str]) -> Iterator[str | BadSample]:
    """Yield the paths of images, in the order of `paths`; a path is looked at when it is its turn.

    A path that is no folder is an image, whatever its name, and whether or not it is there. Of a
    folder, the images in it and in all folders below come sorted; `file_names.py` says which names
    are those of images, and which are ignored.

    Args:
        others: files in folders that are no images are counted here, by suffix.

    Yields:
        Paths; and a bad sample for each folder without an image, or that cannot be listed.

    Example:
        >>> list(image_files(["cat.jpg", "photos"], Counter()))
        ['cat.jpg', 'photos/2024/dog.jpg', 'photos/house.png']
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _in_folder(path, others)
        else:
            yield path


def _in_folder(root: str, others: Counter[str]) -> Iterator[str | BadSample]:
    try:
        found = list_folder(root)
    except OSError as error:
        yield BadSample(root, "unreadable folder", first_line(error))
        return
    images = [name for name in found.files if is_image_name(name)]
    others.update(suffix_of(name) for name in found.files if not is_image_name(name))
    others.update({"no plain file": len(found.others)} if found.others else {})
    if not images:
        yield BadSample(root, "folder without images")
    for name in images:
        yield os.path.join(root, name)
