"""Opens the source that a user names."""

import os

from fastclip.data.built_in import is_built_in, open_built_in
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.hugging_face import is_saved_dataset, load_hugging_face
from fastclip.data.sources.shard_names import is_shard_name
from fastclip.data.sources.source import Source
from fastclip.data.sources.synthetic import SyntheticSource
from fastclip.data.sources.tar_shards import TarSource

DATASET_TYPES = ("webdataset", "csv", "folder", "synthetic", "builtin", "hf", "auto")
TABLE_SUFFIXES = (".csv", ".tsv")


def open_source(
    spec: str | os.PathLike | None,
    dataset_type: str = "auto",
    *,
    separator: str | None = None,
    image_key: str | None = None,
    caption_key: str | None = None,
    split: str = "train",
    num_samples: int | None = None,
    image_size: int | tuple[int, int] = 224,
    seed: int = 0,
) -> Source:
    """Open a source; the names of types and columns are open_clip's.

    Args:
        spec: shards, a table, a folder, the name of a data set, or one of `data/built_in.py`:
            "digits", "digits-held-out", "digits:2048".
        dataset_type: one of `DATASET_TYPES`. "auto" finds the type by the names and by what is in a
            folder; the name of a Hugging Face data set needs "hf".
        separator: of a table, what separates fields; with None, it is found in the header.
        image_key, caption_key: columns, by default `filepath` and `title` of a table, `image` and
            `text` of a Hugging Face data set. For shards and folders, suffixes in order of
            preference, by default "jpg;png;jpeg;webp;..." and "txt".
        split: the split of a Hugging Face data set.
        num_samples: how many samples "synthetic" (required) or "builtin" data has.
        image_size: of "synthetic", height and width in pixels or one number for both.
        seed: the seed of "synthetic" and "builtin" data.

    Raises:
        ModuleNotFoundError: a package that the type needs is not installed.
        OSError: there is no such file or folder, or no shard.
        ValueError: the type is unknown or cannot be found, the data has no sample, or a key is
            given for data without columns and suffixes; also the errors of the source.
    """
    if dataset_type not in DATASET_TYPES:
        raise ValueError(f"dataset_type must be one of {DATASET_TYPES}, got {dataset_type!r}")
    if dataset_type == "synthetic":
        _refuse_keys(dataset_type, image_key, caption_key)
        if num_samples is None:
            raise ValueError("num_samples must be given for synthetic data, got None")
        return SyntheticSource(num_samples, image_size, seed)
    if spec is None:
        raise ValueError(f"spec must be given for dataset_type {dataset_type!r}, got None")
    spec = os.fspath(spec)
    if dataset_type == "auto":
        dataset_type = find_type(spec)
    if dataset_type == "builtin":
        _refuse_keys(dataset_type, image_key, caption_key)
        return open_built_in(spec, num_samples, seed)
    if dataset_type == "webdataset":
        return TarSource(spec, image_key, caption_key)
    if dataset_type == "csv":
        return CsvSource(spec, separator, image_key or "filepath", caption_key or "title")
    if dataset_type == "folder":
        return FolderSource(spec, image_key, caption_key)
    return load_hugging_face(spec, split, image_key or "image", caption_key or "text")


def find_type(spec: str) -> str:
    """Return the type of data that `spec` is.

    Raises:
        FileNotFoundError: `spec` has the form of no known type, and there is no such file.
        ValueError: the file exists, but is of no known type.
    """
    if is_built_in(spec) and not os.path.exists(spec):
        return "builtin"
    if os.path.isdir(spec):
        if is_saved_dataset(spec):
            return "hf"
        has_shards = any(map(is_shard_name, os.listdir(spec)))
        return "webdataset" if has_shards else "folder"
    if spec.lower().endswith(TABLE_SUFFIXES):
        return "csv"
    if "::" in spec or ".tar" in spec.lower():
        return "webdataset"
    if not os.path.exists(spec):
        raise FileNotFoundError(
            f"spec: no such file or folder: {spec!r} (a Hugging Face name needs dataset_type 'hf')"
        )
    raise ValueError(
        f"spec must be tar shards, a .csv or .tsv file or a folder, got {spec!r}; "
        "if it is one of them, give its dataset_type"
    )


def _refuse_keys(dataset_type: str, image_key: str | None, caption_key: str | None) -> None:
    for name, key in (("image_key", image_key), ("caption_key", caption_key)):
        if key is not None:
            raise ValueError(f"{name} must be None for {dataset_type} data, got {key!r}")
