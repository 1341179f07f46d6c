"""The settings of data: how files are read, and which of them a run trains on."""

from dataclasses import dataclass

from fastclip.train.memory.activation_budget import parse_bytes
from fastclip.train.settings.setting import Settings, setting

MADE_TYPES = ("synthetic", "builtin")  # types of generated training data; other data is in files


@dataclass(frozen=True)
class SourceConfig(Settings):
    """The settings for reading the data of a run, for training and for evaluation."""

    dataset_type: str = setting(
        "auto",
        "The type of the data: webdataset (tar shards), csv (any table), folder, hf (a Hugging "
        "Face data set), builtin (the digits), synthetic (generated images), or auto, which finds "
        "the type from the name of the data and the contents of a folder.",
    )
    csv_separator: str | None = setting(
        None,
        "The character that separates the columns of a table. By default it is the one that the "
        "header contains: a tab, a comma, a semicolon or |.",
    )
    csv_img_key: str | None = setting(
        None,
        "The column that holds the path of an image, or the image itself. By default it is "
        "`filepath` in a table and `image` in a Hugging Face data set.",
        metavar="COLUMN",
    )
    csv_caption_key: str | None = setting(
        None,
        "The column that holds the caption. By default it is `title` in a table and `text` in a "
        "Hugging Face data set.",
        metavar="COLUMN",
    )
    image_key: str | None = setting(
        None,
        "The image to read where a sample has several images: suffixes in order of preference, "
        "such as 'png;jpg' or seg.png, or the column of a table.",
    )
    caption_key: str | None = setting(
        None,
        "The caption to read where a sample has several captions: suffixes in order of preference, "
        "such as 'txt;json', or the column of a table. By default it is txt. In a json file, the "
        "caption is the value of 'caption' or 'text'.",
    )
    workers: int = setting(
        4,
        "The number of processes that read and decode data for each rank. With 0, the process that "
        "trains reads and decodes the data itself.",
        least=0,
    )
    max_bad_rate: float = setting(
        0.1, "The largest fraction of samples that may be unreadable; beyond it, the run stops."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, column in (("image_key", "csv_img_key"), ("caption_key", "csv_caption_key")):
            values = {getattr(self, name), getattr(self, column)} - {None}
            self._require(
                len(values) < 2, name, f"left out, or {getattr(self, column)!r} as {column} is"
            )


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """The settings of the training data."""

    train_data: str | None = setting(
        None,
        "The pairs to train on: tar shards (braces and globs name many, and `::` separates several "
        "names), a .csv or .tsv table, a folder, a Hugging Face data set, or `digits`.",
        metavar="DATA",
    )
    train_num_samples: int | None = setting(
        None,
        "The number of samples in an epoch. It must be given for data that does not say how many "
        "samples it has, such as tar shards without sizes.json.",
    )
    shuffle_buffer: int = setting(
        1000, "The number of samples in the shuffle buffer of each worker.", least=1
    )
    image_cache: str = setting(
        "auto",
        "The memory in which decoded images are kept, so that later epochs need not decode them "
        "again: a number of bytes for each rank, such as 4GiB (a machine with 8 ranks takes 8 "
        "times as much), or 0 to keep none. With auto, all images are kept if they need at most a "
        "tenth of the free memory, and none otherwise. The results of a run do not depend on this "
        "setting. Images of tables, folders and Hugging Face data sets can be kept, but images in "
        "tar shards cannot.",
        of_number=str,
        metavar="BYTES",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_cache != "auto":
            parse_bytes("image_cache", self.image_cache)
