"""Opens folders of embeddings without a manifest, as clip-retrieval 2 writes them.

The files are `img_emb/img_emb_{i}.npy`, `text_emb/text_emb_{i}.npy` and
`metadata/metadata_{i}.parquet`, in the order of their numbers, which may have leading zeros. One
side and the metadata may be missing.
"""

import re
from pathlib import Path

import numpy as np

from fastclip.data.quoting import some_of
from fastclip.embeddings.array_file import open_array
from fastclip.embeddings.file_groups import FileGroup
from fastclip.embeddings.layout import METADATA, SIDES, vectors_of
from fastclip.embeddings.metadata import open_metadata
from fastclip.embeddings.storage import Stored


def groups_without_manifest(folder: Path) -> list[FileGroup]:
    """Open the files in a folder; the arrays decide the length and the type of the vectors.

    Raises:
        FileNotFoundError: the folder has no vectors.
        OSError: a file cannot be read.
        ValueError: a side or the metadata lacks a file that another has, numbers of rows disagree,
            or vectors have several lengths or types.
    """
    sides = {side: _numbered(folder, vectors_of(side), "npy") for side in SIDES}
    sides = {side: paths for side, paths in sides.items() if paths}
    if not sides:
        raise FileNotFoundError(
            f"{folder} has no embeddings: neither a manifest nor img_emb/*.npy or text_emb/*.npy"
        )
    metadata = _numbered(folder, METADATA, "parquet")
    kinds = {vectors_of(side): paths for side, paths in sides.items()}
    kinds |= {METADATA: metadata} if metadata else {}
    numbers = sorted(set().union(*kinds.values()))
    for kind, paths in kinds.items():
        if missing := [number for number in numbers if number not in paths]:
            raise ValueError(f"{folder / kind} lacks the files with number {some_of(missing, 8)}")
    groups = []
    for number in numbers:
        vectors = {
            side: Stored(open_array(paths[number], 2, (np.float16, np.float32)))
            for side, paths in sides.items()
        }
        rows = open_metadata(metadata[number]) if metadata else None
        groups.append(FileGroup(f"{folder}, files {number}", vectors, rows))
    kinds_of_vectors = {
        (str(part.values.dtype), part.values.shape[1])
        for group in groups
        for part in group.vectors.values()
    }
    if len(kinds_of_vectors) > 1:
        told = " and ".join(f"{dtype} of {dim}" for dtype, dim in sorted(kinds_of_vectors))
        raise ValueError(f"{folder} has vectors of several kinds: {told} entries")
    return groups


def _numbered(folder: Path, kind: str, suffix: str) -> dict[int, Path]:
    """Return the files of a kind, by number."""
    pattern = re.compile(rf"{kind}_(\d{{1,18}})\.{suffix}", re.ASCII)
    if not (folder / kind).is_dir():
        return {}
    found: dict[int, Path] = {}
    for path in sorted((folder / kind).iterdir()):
        if match := pattern.fullmatch(path.name):
            number = int(match[1])
            if number in found:
                raise ValueError(f"{path} and {found[number].name} have the same number")
            found[number] = path
    return found
