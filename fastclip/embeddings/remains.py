"""Removes what a killed job left in its folder; the resumed job does it under the lock.

These are temporary files, and files that were complete before the manifest named them. Any other
file in the folder belongs to somebody and stays, even if it is hidden or has a similar name.
"""

import re
from pathlib import Path

from fastclip.atomic_file import remove_temporaries, writing
from fastclip.embeddings.layout import MANIFEST, pattern_of, statistics_of
from fastclip.embeddings.manifest import Manifest


def remove_remains(folder: Path, manifest: Manifest) -> None:
    """Remove what the job of a manifest had begun but not completed.

    Raises:
        CannotRead, CannotWrite: a folder cannot be read or written.
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
