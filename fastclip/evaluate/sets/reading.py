"""How files of an evaluation are read, and which of that a kind of data set looks at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

DATASET_TYPES = ("auto", "webdataset", "csv", "folder", "hf")
FIELDS = ("separator", "image_key", "caption_key", "label_key", "split")
AS_THEY_ARE = {field: field for field in FIELDS}


@dataclass(frozen=True)
class Reading:
    """How files are read; None leaves it to the kind of data set.

    Attributes:
        dataset_type: one of `DATASET_TYPES`; "auto" goes by names and by what is in a folder.
        separator: of a table, by default the one that its header is cut best by.
        image_key, caption_key: columns of a table or of a Hugging Face data set, by default
            `filepath` and `title`, or `image` and `text`; suffixes in shards and folders.
        label_key: the column of labels, by default `label`; in shards a suffix, by default `cls`.
            A table in which it is given is one of labelled images.
        split: of a Hugging Face data set, and of shards in a folder for each split.
        default_split: where `split` is None.
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
        """The split that is read, where there are several."""
        return self.default_split if self.split is None else self.split


class LookedAt(NamedTuple):
    """What a data set is called, of what kind it is, and which of `FIELDS` that looks at."""

    name: str
    kind: str
    fields: Sequence[str]


def require_looked_at(
    reading: Reading,
    sets: Sequence[LookedAt],
    fields: Sequence[str] = FIELDS,
    names: Mapping[str, str] = AS_THEY_ARE,
) -> None:
    """Refuse what is said of how files are read, if none of some data sets looks at it.

    Args:
        sets: that are read in this way; at least one.
        fields: those of `FIELDS` that are asked about.
        names: what the user calls each of `FIELDS`.

    Raises:
        ValueError: there is such a field; the message says what each of the sets looks at.
    """
    for field in fields:
        if getattr(reading, field) is None or any(field in found.fields for found in sets):
            continue
        known = "; ".join(
            f"{found.name}, {found.kind}, is read by "
            + _listed([names[name] for name in FIELDS if name in found.fields])
            for found in sets
        )
        raise ValueError(f"{names[field]} has no effect: {known}")


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names) or "none of these"
    return f"{', '.join(names[:-1])} and {names[-1]}"
