"""From what a user names to a source."""

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
    """Open a source; open_clip's names of types and columns.

    Args:
        spec: shards, a table, a folder, the name of a data set, or one of `data/built_in.py`:
            "digits", "digits-held-out", "digits:2048".
        dataset_type: "auto" looks at the names and at what is in a folder; a Hugging Face name
            must be called "hf".
        separator: of a table; None looks for it in the header.
        image_key, caption_key: columns, by default `filepath` and `title` of a table, `image` and
            `text` of a Hugging Face data set; of shards and folders suffixes in order of
            preference, by default "jpg;png;jpeg;webp;..." and "txt".
        split: of a Hugging Face data set.
        num_samples: of "synthetic" (needed) and "builtin".
        image_size: of "synthetic", height and width in pixels or one number for both.
        seed: of "synthetic" and "builtin".

    Raises:
        ModuleNotFoundError: a package that the type needs is not installed.
        OSError: there is no such file or folder, or no shard.
        ValueError: the type is unknown or cannot be found out, the data has no sample, or a key
            is given where nothing has one; further errors are those of the source.
    """
    if dataset_type not in DATASET_TYPES:
        raise ValueError(f"dataset_type must be one of {DATASET_TYPES}, got {dataset_type!r}")
    if dataset_type == "synthetic":
        _refuse_keys(dataset_type, image_key, caption_key)
        if num_samples is None:
            raise ValueError("num_samples must be given for synthetic data")
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
        FileNotFoundError: it looks like nothing known, and there is no such file.
        ValueError: there is, of no known kind.
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
        "dataset_type says what it is"
    )


def _refuse_keys(dataset_type: str, image_key: str | None, caption_key: str | None) -> None:
    for name, key in (("image_key", image_key), ("caption_key", caption_key)):
        if key is not None:
            raise ValueError(f"{name} must be None for {dataset_type} data, got {key!r}")
