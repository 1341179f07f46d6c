"""Open the data of an evaluation: labelled images, or pairs of images and captions."""

import os
from dataclasses import dataclass
from typing import Any

from fastclip.data.built_in import LABELED
from fastclip.data.sources.class_folder import ClassFolderSource
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.file_names import Suffixes
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.folder_files import list_folder
from fastclip.data.sources.hugging_face import load_rows, source_of_rows
from fastclip.data.sources.opening import find_type, open_source
from fastclip.data.sources.source import Source
from fastclip.data.sources.tar_shards import TarSource
from fastclip.evaluate.sets import layout
from fastclip.evaluate.sets.labelled import LabelledSet, Numbers, called, of_rows, of_table
from fastclip.evaluate.sets.lines import EachLine
from fastclip.evaluate.sets.reading import LookedAt, Reading, require_looked_at
from fastclip.evaluate.zero_shot_task import Labels

LABELLED, PAIRS = "labelled", "pairs"  # the kinds of sets
BUILT_IN = "built-in data"
SPLITS = ("test", "train", "val", "validation")


@dataclass(frozen=True)
class PairSet:
    """Pairs of images and captions.

    Attributes:
        name: the name of the set in results.
        source: the pairs; pairs whose images have the same pixels share one image.
        split: the split of the data, or "".
    """

    name: str
    source: Source
    split: str = ""


AS_IT_IS = Reading()
Found = tuple[LabelledSet | PairSet, LookedAt]


def open_set(
    spec: str | os.PathLike, reading: Reading = AS_IT_IS, wanted: str | None = None
) -> LabelledSet | PairSet:
    """Open the data of an evaluation.

    Args:
        spec: a folder with a folder of images for each class, or with images and captions; tar
            shards; a table; a Hugging Face data set, as a folder, or by its name if `dataset_type`
            is "hf"; or built-in data: "digits", labelled images of single digits to test on;
            "digits-train", those to train probes on; "digits-held-out", pairs.
        reading: how files are read.
        wanted: "labelled" or "pairs"; None goes by the data. Data that could be both, such as a
            folder of classes with captions next to the images, are then opened as pairs.

    Raises:
        OSError, ValueError, ModuleNotFoundError: see `open_source`; or the data are not of the
            wanted kind, or do not use a setting that `reading` has.

    Example:
        >>> open_set("digits").name
        'digits'
    """
    data, looked_at = find_set(spec, reading, wanted)
    require_looked_at(reading, [looked_at])
    return data


def find_set(
    spec: str | os.PathLike, reading: Reading = AS_IT_IS, wanted: str | None = None
) -> Found:
    """Open the data of an evaluation, and return which fields of `reading` they use.

    Arguments and errors are the same as for `open_set`, except that fields that the data do not
    use raise no error.
    """
    spec = os.fspath(spec)
    kind = reading.dataset_type
    if kind == "auto" and spec in LABELED and not os.path.exists(spec) and wanted != PAIRS:
        if reading.label_key is not None:
            raise ValueError(
                f"label_key (--label-key) has no effect on the built-in data {spec}, got "
                f"{reading.label_key!r}"
            )
        built_in = LABELED[spec]
        source = built_in.open()
        labels = Labels(tuple(source.classes))
        data = LabelledSet(spec, source, labels, source.classes, built_in.prompts)
        return _found(data, BUILT_IN)
    if kind in ("auto", "webdataset"):
        inside = layout.shards_of_split(spec, reading.split_or_default)
        is_split = inside != spec
        kind = find_type(inside) if kind == "auto" else kind
        if kind == "webdataset":
            return _of_shards(_name_of(spec), inside, reading, wanted, is_split)
        splits = layout.splits_in(spec) if os.path.isdir(spec) else []
        if kind == "folder" and splits:
            raise ValueError(
                f"{spec} has shards in the folders {', '.join(splits)}, and none in "
                f"{reading.split_or_default!r}; give one of these folders as split (--split)"
            )
    if kind == "hf":
        return _of_hugging_face(spec, reading, wanted)
    if kind == "csv":
        return _of_table(spec, reading, wanted)
    if kind == "folder":
        return _of_folder(spec, reading, wanted)
    if wanted == LABELLED:
        raise ValueError(
            f"{spec} consists of pairs, but labelled images are needed; the built-in ones are "
            f"{' and '.join(LABELED)}"
        )
    return _found(PairSet(spec, open_source(spec, kind)), BUILT_IN)


def _found(data: LabelledSet | PairSet, kind: str, *fields: str) -> Found:
    return data, LookedAt(data.name, kind, fields)


def _of_shards(
    name: str, shards: str, reading: Reading, wanted: str | None, is_split: bool
) -> Found:
    split, of_split = (reading.split_or_default, ("split",)) if is_split else ("", ())
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
        data = LabelledSet(name, source, Numbers(), names, templates, split)
        return _found(data, "labelled images in shards", "image_key", "label_key", *of_split)
    source = TarSource(shards, reading.image_key, reading.caption_key)
    pairs = PairSet(name, EachLine(source) if layout.is_for_retrieval(shards) else source, split)
    return _found(pairs, "pairs in shards", "image_key", "caption_key", *of_split)


def _of_hugging_face(spec: str, reading: Reading, wanted: str | None) -> Found:
    name = _name_of(spec) if os.path.isdir(spec) else spec
    split = reading.split_or_default
    rows = load_rows(spec, split)
    image_key = reading.image_key or "image"
    caption_key, label_key = reading.caption_key or "text", reading.label_key or "label"
    is_labelled = wanted == LABELLED or reading.label_key is not None
    if wanted is None and caption_key not in rows.column_names:
        is_labelled |= label_key in rows.column_names
    if is_labelled and wanted != PAIRS:
        data = of_rows(name, rows, image_key, label_key, split)
        return _found(data, "labelled images of Hugging Face", "image_key", "label_key", "split")
    pairs = PairSet(name, source_of_rows(rows, image_key, caption_key), split)
    return _found(pairs, "pairs of Hugging Face", "image_key", "caption_key", "split")


def _of_table(spec: str, reading: Reading, wanted: str | None) -> Found:
    separator = reading.separator
    image_key = reading.image_key or "filepath"
    if wanted == LABELLED or (wanted is None and reading.label_key is not None):
        data = of_table(
            _name_of(spec), CsvSource(spec, separator, image_key, reading.label_key or "label")
        )
        return _found(data, "labelled images in a table", "separator", "image_key", "label_key")
    pairs = PairSet(
        _name_of(spec), CsvSource(spec, separator, image_key, reading.caption_key or "title")
    )
    return _found(pairs, "pairs in a table", "separator", "image_key", "caption_key")


def _of_folder(spec: str, reading: Reading, wanted: str | None) -> Found:
    if reading.label_key is not None:
        raise ValueError(
            f"label_key (--label-key) has no effect, because the classes of {spec} are its "
            f"folders; got {reading.label_key!r}"
        )
    if wanted == PAIRS or (wanted is None and _has_captions(spec, reading)):
        pairs = PairSet(_name_of(spec), FolderSource(spec, reading.image_key, reading.caption_key))
        return _found(pairs, "a folder of pairs", "image_key", "caption_key")
    source = ClassFolderSource(spec)
    labels = Labels(tuple(source.classes))
    return _found(
        LabelledSet(_name_of(spec), source, labels, called(source.classes)), "a folder of classes"
    )


def _has_captions(folder: str, reading: Reading) -> bool:
    """Return whether an image of the folder has a caption next to it."""
    suffixes = Suffixes(reading.image_key, reading.caption_key)
    keys: dict[Any, set[str]] = {"image": set(), "caption": set()}
    for file in list_folder(folder).files:
        name = suffixes.name(file)
        if name.kind is not None:
            keys[name.kind].add(name.key)
    return not keys["image"].isdisjoint(keys["caption"])


def _name_of(spec: str) -> str:
    """Return a name for a path: its last part, or the last two if that is a split ("pets/val")."""
    path = os.path.abspath(spec)
    if not os.path.isdir(path):
        path = os.path.splitext(path)[0] if path.endswith((".csv", ".tsv")) else _folder(path)
    folder, name = os.path.split(path)
    return f"{os.path.basename(folder)}/{name}" if name in SPLITS else name


def _folder(pattern: str) -> str:
    return os.path.dirname(pattern)
