"""Files that come with open_clip and are not part of fastclip: found without importing it."""

import sys
from pathlib import Path


def open_clip_file(name: str) -> Path | None:
    """The file of this name in an installed `open_clip_torch`, or None.

    Also where `open_clip` is a name of fastclip in this process: see `fastclip.compat`.
    """
    for finder in sys.meta_path:
        package = finder.find_spec("open_clip", None)
        for directory in (package and package.submodule_search_locations) or ():
            path = Path(directory, name)
            if path.is_file():
                return path
    return None
