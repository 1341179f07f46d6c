"""Settings for reading the files of an evaluation, and a check that a data set uses them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

DATASET_TYPES = ("auto", "webdataset", "csv", "folder", "hf")
FIELDS = ("separator", "image_key", "caption_key", "label_key", "split")
AS_THEY_ARE = {field: field for field in FIELDS}


@dataclass(frozen=True)
class Reading:
    """Settings for reading files; None stands for the default of the kind of data set.

    Attributes:
        dataset_type: one of `DATASET_TYPES`; "auto" goes by names and by what is in a folder.
        separator: the separator of a table; by default it is detected from the header.
        image_key, caption_key: columns of a table or of a Hugging Face data set, by default
            `filepath` and `title`, or `image` and `text`; suffixes in shards and folders.
        label_key: the column of labels, by default `label`; in shards a suffix, by default `cls`.
            A table is read as labelled images if this is given.
        split: the split of a Hugging Face data set, or of shards in a folder per split.
        default_split: the split that is read if `split` is None.
    """

    dataset_type: str = "auto"
    separator: str | None = None
    image_key: str | None = None
    caption_key: str | None = None
    label_key: str | None = None
    split: str | None = None
    default_split: str = "test"

    @property
    def split_or_default(self) -> str:
        """The split that is read if the data have several."""
        return self.default_split if self.split is None else self.split


class LookedAt(NamedTuple):
    """The name of a data set, its kind, and which of `FIELDS` that kind uses."""

    name: str
    kind: str
    fields: Sequence[str]


def require_looked_at(
    reading: Reading,
    sets: Sequence[LookedAt],
    fields: Sequence[str] = FIELDS,
    names: Mapping[str, str] = AS_THEY_ARE,
) -> None:
    """Raise a ValueError if a setting is given that none of the data sets uses.

    Args:
        reading: the settings.
        sets: the data sets that are read with these settings; at least one.
        fields: the settings to check, of `FIELDS`.
        names: the user's name for each of `FIELDS`, such as a flag.

    Raises:
        ValueError: there is such a setting; the message lists the settings that each set uses.
    """
    for field in fields:
        if getattr(reading, field) is None or any(field in found.fields for found in sets):
            continue
        known = "; ".join(
            f"{found.name} ({found.kind}) uses "
            + _listed([names[name] for name in FIELDS if name in found.fields])
            for found in sets
        )
        raise ValueError(f"{names[field]} has no effect: {known}")


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names) or "no such setting"
    return f"{', '.join(names[:-1])} and {names[-1]}"
