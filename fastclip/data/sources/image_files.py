"""The images that a user names: files, and folders with all folders below."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from fastclip.data.quoting import first_line
from fastclip.data.sources.file_names import is_image_name, suffix_of
from fastclip.data.sources.folder_files import list_folder
from fastclip.data.sources.samples import BadSample


def image_files(paths: Iterable[str], others: Counter[str]) -> Iterator[str | BadSample]:
    """Yield the paths of images, in the order of `paths`; each path is looked at in its turn.

    A path that is not a folder counts as an image, whatever its name and whether or not the file
    exists. The images in a folder and in all folders below it come sorted; `file_names.py` says
    which names are images, and which are ignored.

    Args:
        others: a counter; files in folders that are not images are added to it, by suffix.

    Yields:
        Paths, and a bad sample for each folder that has no image or cannot be listed.

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
    others.update({"not a regular file": len(found.others)} if found.others else {})
    if not images:
        yield BadSample(root, "folder without images")
    for name in images:
        yield os.path.join(root, name)
