"""CLIP_benchmark's layout of a data set: a folder of shards per split, and text files about them.

    imagenet1k/classnames.txt                            a class name per line
    imagenet1k/zeroshot_classification_templates.txt     a template per line, with {c} for a class
    imagenet1k/dataset_type.txt                          "retrieval" if the shards have pairs
    imagenet1k/test/0.tar                                0001.jpg and 0001.cls, or 0001.txt

Source: CLIP_benchmark 1.6.2, `clip_benchmark/datasets/builder.py`; DataComp's evaluation uses the
same layout.
"""

import contextlib
import glob
import os
from collections.abc import Sequence
from itertools import islice

from fastclip.data.regular_file import open_regular, read_regular
from fastclip.data.sources.file_names import Suffixes
from fastclip.data.sources.shard_names import is_shard_name, shard_paths
from fastclip.data.sources.tar_members import Member, read_members
from fastclip.evaluate.prompts import read_class_names, read_templates

CLASSES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
KIND, RETRIEVAL, LONGEST_KIND = "dataset_type.txt", "retrieval", 100
LOOKED_AT = 64  # members of a shard that show whether it has labels


def shards_of_split(spec: str, split: str) -> str:
    """Return the folder of a split if `spec` is a folder of splits; else `spec` itself."""
    inside = os.path.join(spec, split)
    if os.path.isdir(spec) and not _has_shards(spec) and _has_shards(inside):
        return inside
    return spec


def splits_in(spec: str) -> list[str]:
    """Return the names of the folders in `spec` that contain shards, as splits do."""
    return sorted(os.path.basename(p) for p in glob.glob(os.path.join(spec, "*")) if _has_shards(p))


def class_names_beside(shards: str) -> list[str] | None:
    """Return the class names from the file next to the shards or above their folder, or None."""
    path = _beside(shards, CLASSES)
    return None if path is None else read_class_names(path)


def templates_beside(shards: str) -> list[str] | None:
    """Return the templates from the file next to the shards or above their folder, or None.

    The templates have {} where the file has {c}.

    Raises:
        ValueError: a line is not a template.
    """
    path = _beside(shards, TEMPLATES)
    return None if path is None else read_templates(path)


def is_for_retrieval(shards: str) -> bool:
    """Return whether a file says that the shards have pairs, with a caption per line."""
    path = _beside(shards, KIND)
    return path is not None and read_regular(path, LONGEST_KIND).decode().strip() == RETRIEVAL


def has_labels(shards: str, label_key: str) -> bool:
    """Return whether the first readable shard begins with members that are labels, not captions."""
    for path in shard_paths(shards):
        with contextlib.suppress(OSError), open_regular(path, buffering=2**17) as file:
            found = islice(read_members(file, 0), LOOKED_AT)
            names = [member.name for member in found if isinstance(member, Member)]
            return _has(names, Suffixes(captions=label_key)) and not _has(names, Suffixes())
    return False


def _has(names: Sequence[str], suffixes: Suffixes) -> bool:
    """Return whether one of the names is the name of a caption."""
    return any(suffixes.name(name).kind == "caption" for name in names)


def _beside(shards: str, name: str) -> str | None:
    folder = _folder_of(shards)
    places: Sequence[str] = (folder, os.path.dirname(folder))
    paths = (os.path.join(place, name) for place in places)
    return next((path for path in paths if os.path.isfile(path)), None)


def _folder_of(shards: str) -> str:
    if os.path.isdir(shards):
        return os.path.abspath(shards)
    return os.path.dirname(os.path.abspath(shard_paths(shards)[0]))


def _has_shards(folder: str) -> bool:
    return os.path.isdir(folder) and any(map(is_shard_name, os.listdir(folder)))
