"""Datasets of the Hugging Face library `datasets`, which is only imported to load one."""

import os
from collections.abc import Iterator
from typing import Any

from fastclip.data.sources.samples import BadSample, Sample, with_caption
from fastclip.data.sources.source import Contents, IndexedSource
from fastclip.installation import install_command


class HuggingFaceSource(IndexedSource):
    """The rows of a `datasets.Dataset`, or of any object with `column_names`, `len` and `[i]`.

    Args:
        dataset: the data set; its rows are dictionaries. An image is a PIL image, the bytes of a
            file, a path, or a dictionary with "bytes" or "path", as an undecoded column returns it.
        image_key, caption_key: columns. If a caption is a list of strings, the first is taken.

    Raises:
        TypeError: `dataset` is streamed, so that its rows have no positions to resume from.
        ValueError: a column is missing, or there is no row.
    """

    def __init__(self, dataset: Any, image_key: str = "image", caption_key: str = "text") -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"dataset must have a length and rows by number, got {type(dataset).__name__}; "
                "load it without streaming"
            )
        for argument, column in (("image_key", image_key), ("caption_key", caption_key)):
            if column not in dataset.column_names:
                raise ValueError(
                    f"{argument} must be a column, got {column!r}; "
                    f"the columns are {list(dataset.column_names)}"
                )
        if len(dataset) == 0:
            raise ValueError("dataset must have at least one row")
        self._dataset, self._image_key, self._caption_key = dataset, image_key, caption_key
        # The library's own mark of a data set, which data sets derived from it do not share.
        self._fingerprint = str(getattr(dataset, "_fingerprint", "not known"))

    def __len__(self) -> int:
        return len(self._dataset)

    def contents(self) -> Contents:
        return [
            ("rows", f"{len(self):,}"),
            ("column of images", self._image_key),
            ("column of captions", self._caption_key),
            ("fingerprint", self._fingerprint),
        ]

    def files(self) -> Iterator[str]:
        """Yield the library's files; also images, if the first readable one is named by a path."""
        yield from (file["filename"] for file in getattr(self._dataset, "cache_files", ()))
        images = (s.image for s in map(self.load, range(len(self))) if isinstance(s, Sample))
        first = next(images, None)
        if isinstance(first, str):
            yield first
            yield from (image for image in images if isinstance(image, str))

    def undecoded(self, column: Any) -> "HuggingFaceSource":
        """Return a source of the same rows with stored images, which the transform decodes."""
        rows = self._dataset.cast_column(self._image_key, column)
        source = HuggingFaceSource(rows, self._image_key, self._caption_key)
        source._fingerprint = self._fingerprint
        return source

    def load(self, index: int) -> Sample | BadSample:
        key = f"row {index}"
        # The library decodes while it reads, and raises any error of its decoders.
        try:
            row = self._dataset[index]
        except Exception as error:
            return BadSample(key, "unreadable row", f"{type(error).__name__}: {error}")
        image, caption = row[self._image_key], row[self._caption_key]
        if isinstance(image, dict):
            image = image["path"] if image.get("bytes") is None else image["bytes"]
        if image is None:
            return BadSample(key, "no image")
        if isinstance(caption, list | tuple) and caption:
            caption = caption[0]
        return with_caption(key, image, caption)


def load_hugging_face(
    name: str | os.PathLike,
    split: str = "train",
    image_key: str = "image",
    caption_key: str = "text",
) -> HuggingFaceSource:
    """Load a dataset by its name, or from a folder that `save_to_disk` has written.

    Raises:
        ModuleNotFoundError: `datasets` is not installed.
        ValueError: a column or the split is missing.
    """
    return source_of_rows(load_rows(name, split), image_key, caption_key)


def load_rows(name: str | os.PathLike, split: str) -> Any:
    """Load a `datasets.Dataset`; raises as `load_hugging_face`, but checks no columns."""
    datasets = _datasets()
    name = os.fspath(name)
    if not (os.path.isdir(name) and is_saved_dataset(name)):
        return datasets.load_dataset(name, split=split)
    dataset = datasets.load_from_disk(name)
    if isinstance(dataset, dict):
        if split not in dataset:
            raise ValueError(f"split must be one of {sorted(dataset)}, got {split!r}")
        dataset = dataset[split]
    return dataset


def source_of_rows(dataset: Any, image_key: str, caption_key: str) -> HuggingFaceSource:
    """Return a source of the rows of a loaded dataset; the transform decodes its images.

    Raises:
        ValueError: a column is missing.
    """
    source = HuggingFaceSource(dataset, image_key, caption_key)
    image = _datasets().Image
    if isinstance(dataset.features.get(image_key), image):
        return source.undecoded(image(decode=False))
    return source


def _datasets() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"A Hugging Face data set needs datasets: {install_command('hub', 'datasets')}"
        ) from error
    return datasets


def is_saved_dataset(folder: str) -> bool:
    """Return whether `save_to_disk` has written this folder."""
    marks = ("dataset_info.json", "dataset_dict.json")
    return any(os.path.exists(os.path.join(folder, mark)) for mark in marks)
