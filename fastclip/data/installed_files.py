"""Files that come with other packages and are not part of fastclip: found without an import."""

import sys
from pathlib import Path


def installed_file(package: str, name: str) -> Path | None:
    """The file of this name in an installed package, or None.

    A module that only goes by the name of `package` in this process does not hide the package.
    """
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)  # which old finders lack; Python skips them
        spec = find_spec and find_spec(package, None)
        for directory in (spec and spec.submodule_search_locations) or ():
            path = Path(directory, name)
            if path.is_file():
                return path
    return None
