"""Finds files of other installed packages without importing these packages."""

import sys
from pathlib import Path


def installed_file(package: str, name: str) -> Path | None:
    """Return the path of a file in an installed package, or None.

    A module of this process that only has the name of `package` does not hide the package.
    """
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)  # which old finders lack; Python skips them
        spec = find_spec and find_spec(package, None)
        for directory in (spec and spec.submodule_search_locations) or ():
            path = Path(directory, name)
            if path.is_file():
                return path
    return None
