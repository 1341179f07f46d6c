"""Sets of labelled images, from tables, Hugging Face data sets, shards or folders."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.hugging_face import source_of_rows
from fastclip.data.sources.samples import Sample
from fastclip.data.sources.source import Source
from fastclip.evaluate.zero_shot_task import Labels

NUMBER = re.compile(r"[0-9]{1,9}")
WORDNET = re.compile(r"n[0-9]{8}")


@dataclass(frozen=True)
class Numbers:
    """A tokenizer for captions that are numbers of classes, counted from 0."""

    def __call__(self, captions: list[str]) -> Tensor:
        """Return (B, 1) int64.

        Raises:
            ValueError: a caption is not a number.
        """
        for caption in captions:
            if NUMBER.fullmatch(caption) is None:
                raise ValueError(f"a label must be an integer from 0, got {caption[:80]!r}")
        return torch.tensor([[int(caption)] for caption in captions])


@dataclass(frozen=True)
class LabelledSet:
    """Images with a class each.

    Attributes:
        name: the name of the set in results.
        source: the images; the caption of each is its class.
        labels: takes the place of a tokenizer: from captions to (B, 1) int64.
        class_names: the names of the classes, in the order of their numbers; None if the data do
            not have names.
        templates: templates that come with the data, or None.
        split: the split of the data, or "".
    """

    name: str
    source: Source
    labels: Callable[[list[str]], Tensor]
    class_names: Sequence[str] | None
    templates: Sequence[str] | None = None
    split: str = ""


def called(keys: Sequence[str]) -> list[str] | None:
    """Return class names for the names of folders or labels, or None if they are WordNet ids."""
    if any(WORDNET.fullmatch(key) for key in keys):
        return None
    return [key.replace("_", " ") for key in keys]


def of_table(name: str, source: CsvSource) -> LabelledSet:
    """Return the images of a table whose caption column has labels: names, or numbers from 0.

    All rows are read to find out which labels there are.
    """
    loaded = (entry.load() for part in source.parts() for entry in source.read(part))
    found = {sample.caption for sample in loaded if isinstance(sample, Sample)}
    if all(map(NUMBER.fullmatch, found)):
        return LabelledSet(name, source, Numbers(), None)
    classes = sorted(found)
    return LabelledSet(name, source, Labels(tuple(classes)), called(classes))


def of_rows(
    name: str, dataset: Any, image_key: str, label_key: str, split: str = ""
) -> LabelledSet:
    """Return the images of a Hugging Face data set whose label column has numbers.

    The numbers may have names in the features of the data set.

    Raises:
        ValueError: a column is missing.
    """
    source = source_of_rows(_Labels(dataset, label_key), image_key, label_key)
    names = getattr(dataset.features.get(label_key), "names", None)
    return LabelledSet(name, source, Numbers(), names and called(names), split=split)


class _Labels:
    """The rows of a data set, with the numbers of the label column as texts."""

    def __init__(self, dataset: Any, label_key: str) -> None:
        self._dataset, self._label_key = dataset, label_key
        self.column_names, self.features = dataset.column_names, dataset.features
        self._fingerprint = getattr(dataset, "_fingerprint", "not known")
        self.cache_files = getattr(dataset, "cache_files", ())

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._dataset[index]
        return {**row, self._label_key: str(row[self._label_key])}

    def cast_column(self, column: str, feature: Any) -> "_Labels":
        return _Labels(self._dataset.cast_column(column, feature), self._label_key)
