"""From what a user names to a set: labelled images, or pairs of images and captions."""

import os
from dataclasses import dataclass
from typing import Any

from fastclip.data.built_in import LABELED
from fastclip.data.sources.class_folder import ClassFolderSource
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.file_names import Suffixes
from fastclip.data.sources.folder_files import list_folder
from fastclip.data.sources.hugging_face import load_rows, source_of_rows
from fastclip.data.sources.opening import find_type, open_source
from fastclip.data.sources.source import Source
from fastclip.data.sources.tar_shards import TarSource
from fastclip.evaluate.sets import layout
from fastclip.evaluate.sets.labelled import LabelledSet, Numbers, called, of_rows, of_table
from fastclip.evaluate.sets.lines import EachLine
from fastclip.evaluate.zero_shot_task import Labels

DATASET_TYPES = ("auto", "webdataset", "csv", "folder", "hf")
LABELLED, PAIRS = "labelled", "pairs"  # what a set may be read as
SPLITS = ("test", "train", "val", "validation")


@dataclass(frozen=True)
class PairSet:
    """Images and captions that belong together.

    Attributes:
        name: what results call it.
        source: the pairs; those whose images have the same pixels have one image.
        split: which part of the data it is, or "".
    """

    name: str
    source: Source
    split: str = ""


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        dataset_type: one of `DATASET_TYPES`; "auto" goes by names and by what is in a folder.
        separator: of a table.
        image_key, caption_key: columns of a table or of a Hugging Face data set, by default
            `filepath` and `title`, or `image` and `text`; suffixes in shards and folders.
        label_key: the column of labels, by default `label`; in shards a suffix, by default `cls`.
            A table in which it is given is one of labelled images.
        split: of a Hugging Face data set, and of shards in a folder for each split.
    """

    dataset_type: str = "auto"
    separator: str = "\t"
    image_key: str | None = None
    caption_key: str | None = None
    label_key: str | None = None
    split: str = "test"


AS_IT_IS = Reading()


def open_set(
    spec: str | os.PathLike, reading: Reading = AS_IT_IS, wanted: str | None = None
) -> LabelledSet | PairSet:
    """Open the data of an evaluation.

    Args:
        spec: a folder with a folder of images for each class, or of images and captions; tar
            shards; a table; a Hugging Face data set, as a folder or with `dataset_type` "hf" by its
            name; "digits", every digit of a test alone, or "digits-train", those to train probes
            on; "digits-held-out", pairs.
        wanted: "labelled" or "pairs"; None takes what the data are. What is both, as a folder of
            classes with captions beside the images, then is pairs.

    Raises:
        OSError, ValueError, ModuleNotFoundError: as `open_source`; or the data are not what is
            wanted.

    Example:
        >>> open_set("digits").name
        'digits'
    """
    spec = os.fspath(spec)
    kind = reading.dataset_type
    if kind == "auto" and spec in LABELED and not os.path.exists(spec) and wanted != PAIRS:
        if reading.label_key is not None:
            raise ValueError(f"{spec} has no labels to be named, got {reading.label_key!r}")
        built_in = LABELED[spec]
        source = built_in.open()
        return LabelledSet(
            spec, source, Labels(tuple(source.classes)), source.classes, built_in.prompts
        )
    if kind in ("auto", "webdataset"):
        inside = layout.shards_of_split(spec, reading.split)
        is_split = inside != spec
        kind = find_type(inside) if kind == "auto" else kind
        if kind == "webdataset":
            return _of_shards(_name_of(spec), inside, reading, wanted, is_split)
        splits = layout.splits_in(spec) if os.path.isdir(spec) else []
        if kind == "folder" and splits:
            raise ValueError(
                f"{spec} has shards in the folders {', '.join(splits)}, and none in "
                f"{reading.split!r}: name one of them as the split"
            )
    if kind == "hf":
        return _of_hugging_face(spec, reading, wanted)
    if kind == "csv":
        return _of_table(spec, reading, wanted)
    if kind == "folder":
        return _of_folder(spec, reading, wanted)
    if wanted == LABELLED:
        raise ValueError(
            f"{spec} are pairs, and no labelled images; {' and '.join(LABELED)} are those"
        )
    return PairSet(spec, open_source(spec, kind))


def _of_shards(
    name: str, shards: str, reading: Reading, wanted: str | None, is_split: bool
) -> LabelledSet | PairSet:
    split = reading.split if is_split else ""
    label_key = reading.label_key or "cls"
    if wanted is None:
        is_pairs = layout.is_for_retrieval(shards) or not (
            reading.label_key or layout.has_labels(shards, label_key)
        )
    else:
        is_pairs = wanted == PAIRS
    if not is_pairs:
        source = TarSource(shards, reading.image_key, label_key)
        names, templates = layout.class_names_beside(shards), layout.templates_beside(shards)
        return LabelledSet(name, source, Numbers(), names, templates, split)
    source = TarSource(shards, reading.image_key, reading.caption_key)
    return PairSet(name, EachLine(source) if layout.is_for_retrieval(shards) else source, split)


def _of_hugging_face(spec: str, reading: Reading, wanted: str | None) -> LabelledSet | PairSet:
    name = _name_of(spec) if os.path.isdir(spec) else spec
    rows = load_rows(spec, reading.split)
    image_key = reading.image_key or "image"
    caption_key, label_key = reading.caption_key or "text", reading.label_key or "label"
    is_labelled = wanted == LABELLED or reading.label_key is not None
    if wanted is None and caption_key not in rows.column_names:
        is_labelled |= label_key in rows.column_names
    if is_labelled and wanted != PAIRS:
        return of_rows(name, rows, image_key, label_key, reading.split)
    return PairSet(name, source_of_rows(rows, image_key, caption_key), reading.split)


def _of_table(spec: str, reading: Reading, wanted: str | None) -> LabelledSet | PairSet:
    columns = {"separator": reading.separator, "image_key": reading.image_key or "filepath"}
    if wanted == LABELLED or (wanted is None and reading.label_key is not None):
        return of_table(
            _name_of(spec), CsvSource(spec, caption_key=reading.label_key or "label", **columns)
        )
    return PairSet(
        _name_of(spec), CsvSource(spec, caption_key=reading.caption_key or "title", **columns)
    )


def _of_folder(spec: str, reading: Reading, wanted: str | None) -> LabelledSet | PairSet:
    if reading.label_key is not None:
        raise ValueError(
            f"the classes of {spec} are its folders: there is no label {reading.label_key!r}"
        )
    if wanted == PAIRS or (wanted is None and _has_captions(spec, reading)):
        return PairSet(_name_of(spec), open_source(
            spec, "folder", image_key=reading.image_key, caption_key=reading.caption_key
        ))  # fmt: skip
    source = ClassFolderSource(spec)
    return LabelledSet(
        _name_of(spec), source, Labels(tuple(source.classes)), called(source.classes)
    )


def _has_captions(folder: str, reading: Reading) -> bool:
    """Has an image of the folder a caption beside it?"""
    suffixes = Suffixes(reading.image_key, reading.caption_key)
    keys: dict[Any, set[str]] = {"image": set(), "caption": set()}
    for file in list_folder(folder).files:
        name = suffixes.name(file)
        if name.kind is not None:
            keys[name.kind].add(name.key)
    return not keys["image"].isdisjoint(keys["caption"])


def _name_of(spec: str) -> str:
    """The last part of a path that tells something: "imagenet/val" and not "val"."""
    path = os.path.abspath(spec)
    if not os.path.isdir(path):
        path = os.path.splitext(path)[0] if path.endswith((".csv", ".tsv")) else _folder(path)
    folder, name = os.path.split(path)
    return f"{os.path.basename(folder)}/{name}" if name in SPLITS else name


def _folder(pattern: str) -> str:
    return os.path.dirname(pattern)
