"""The settings of data: how files are read, and which of them are trained on."""

from dataclasses import dataclass

from fastclip.train.memory.activation_budget import parse_bytes
from fastclip.train.settings.setting import Settings, setting

MADE_TYPES = ("synthetic", "builtin")  # of training data that is made; other data is in files


@dataclass(frozen=True)
class SourceConfig(Settings):
    """How the data of a run is read, for training and for evaluation."""

    dataset_type: str = setting(
        "auto",
        "The type of the data: webdataset (tar shards), csv (any table), folder, hf (a Hugging "
        "Face data set), builtin (the digits), synthetic (images that are made up), or auto, which "
        "goes by names and by what is in a folder.",
    )
    csv_separator: str | None = setting(
        None,
        "The character that separates the columns of a table. By default it is looked for in the "
        "header: a tab, a comma, a semicolon or |.",
    )
    csv_img_key: str | None = setting(
        None,
        "The column that has the path of an image. By default it is `filepath` in a table and "
        "`image` in a Hugging Face data set.",
        metavar="COLUMN",
    )
    csv_caption_key: str | None = setting(
        None,
        "The column that has the caption. By default it is `title` in a table and `text` in a "
        "Hugging Face data set.",
        metavar="COLUMN",
    )
    image_key: str | None = setting(
        None,
        "The image of a sample that is read, where a sample has several: suffixes in order of "
        "preference, such as 'png;jpg' or seg.png, or the column of a table.",
    )
    caption_key: str | None = setting(
        None,
        "The caption of a sample that is read: suffixes in order of preference, or the column of a "
        "table. By default it is txt. Of a json file the caption is the value of 'caption' or "
        "'text'.",
    )
    workers: int = setting(
        4,
        "The number of processes that read and decode the data of each rank. With 0, the process "
        "that trains does this itself.",
        least=0,
    )
    max_bad_rate: float = setting(
        0.1, "The fraction of samples that may be unreadable before the run stops."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, column in (("image_key", "csv_img_key"), ("caption_key", "csv_caption_key")):
            values = {getattr(self, name), getattr(self, column)} - {None}
            self._require(len(values) < 2, name, f"{getattr(self, column)!r}, as {column} is")


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """What a run trains on."""

    train_data: str | None = setting(
        None,
        "The pairs to train on: tar shards (named by braces or globs, with `::` between several), "
        "a .csv or .tsv table, a folder, a Hugging Face data set, or `digits`.",
        metavar="DATA",
    )
    train_num_samples: int | None = setting(
        None,
        "The number of samples in an epoch. It must be given where the data does not say how many "
        "it has.",
    )
    shuffle_buffer: int = setting(
        1000, "The number of samples among which each worker shuffles.", least=1
    )
    image_cache: str = setting(
        "auto",
        "The memory for images that are kept as they were decoded, so that later epochs need not "
        "decode them again: bytes of each process of a run, such as 4GiB, of which a machine with "
        "8 of them takes 8 times as many, or 0 for none. With auto, all images are kept if "
        "they need at most a tenth of the memory that is free, and else none. What a run computes "
        "does not depend on it. Only images of data whose samples are counted can be kept: tables, "
        "folders and Hugging Face data sets, but not shards, whatever sizes.json says.",
        of_number=str,
        metavar="BYTES",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_cache != "auto":
            parse_bytes("image_cache", self.image_cache)
