"""What a killed job left in its folder: removed by the one that goes on, under the lock.

These are files under temporary names, and those that were complete before the manifest named them.
What else lies in the folder is somebody's, also where it is hidden or looks much the same.
"""

import re
from pathlib import Path

from fastclip.atomic_file import remove_temporaries, writing
from fastclip.embeddings.layout import MANIFEST, pattern_of, statistics_of
from fastclip.embeddings.manifest import Manifest


def remove_remains(folder: Path, manifest: Manifest) -> None:
    """Remove what the job of a manifest had begun and not completed.

    Raises:
        CannotRead, CannotWrite: a folder refuses.
    """
    remove_temporaries(folder, re.escape(MANIFEST))
    for kind in manifest.kinds:
        _remove_temporaries(folder / kind, pattern_of(kind, manifest.suffix_of(kind)))
        path = manifest.path_of(folder, kind, len(manifest.files))
        with writing(path):
            path.unlink(missing_ok=True)
    for side in manifest.sides:
        path = statistics_of(folder, side)
        _remove_temporaries(path.parent, re.escape(path.name))


def _remove_temporaries(folder: Path, names: str) -> None:
    if folder.is_dir():
        remove_temporaries(folder, names)
