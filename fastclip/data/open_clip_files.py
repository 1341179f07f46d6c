"""Files that come with open_clip and are not part of fastclip: found without importing it."""

import importlib.util
from pathlib import Path


def open_clip_file(name: str) -> Path | None:
    """The file of this name in an installed `open_clip_torch`, or None."""
    package = importlib.util.find_spec("open_clip")
    for directory in (package and package.submodule_search_locations) or ():
        path = Path(directory, name)
        if path.is_file():
            return path
    return None
