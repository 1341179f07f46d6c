"""Where things are in a folder of embeddings, which has the layout of clip-retrieval.

    embeddings.json                  the manifest
    img_emb/img_emb_00000.npy        (n, D): vectors of images, n rows per file
    img_scale/img_scale_00000.npy    (n,): factors of vectors that are stored as int8
    text_emb/..., text_scale/...     the same for texts; row i of all of them is one sample
    place/place_00000.npy            (n, 2) int64: which sample of the source each row is
    metadata/metadata_00000.parquet  or .jsonl: image_path, caption, key and further columns
    statistics/img_emb.npy           (D + 1, D) float64: sums of x and of x x^T
    skipped.jsonl                    what could not be embedded, and why
    index/img_emb.faiss              an approximate index of the vectors of images
    index/img_emb.json               the settings of the index, and the vectors it was made from
    shard_2_of_8/                    for a job in several parts, all of these for each part

No file says where another file is: this module makes the names from numbers.
"""

import re
from pathlib import Path

MANIFEST = "embeddings.json"
SKIPPED = "skipped.jsonl"
STATISTICS = "statistics"
INDEX = "index"
SIDES = ("img", "text")
METADATA = "metadata"
PLACE = "place"
METADATA_FORMATS = ("parquet", "jsonl")
# Readers of clip-retrieval's folders sort the names, so that all numbers need this many digits.
DIGITS = 5
MOST_FILES = 10**DIGITS
SHARD = re.compile(r"shard_(\d+)_of_(\d+)")


def vectors_of(side: str) -> str:
    """Return the name of the folder with the vectors of a side, "img" or "text"."""
    return f"{side}_emb"


def scales_of(side: str) -> str:
    """Return the name of the folder with the factors of vectors that are stored as int8."""
    return f"{side}_scale"


# The names of all folders that a folder of embeddings may have.
KINDS = (*(kind(side) for side in SIDES for kind in (vectors_of, scales_of)), PLACE, METADATA)


def file_of(folder: Path, kind: str, number: int, suffix: str = "npy") -> Path:
    """Return the path of a file, such as img_emb/img_emb_00000.npy for the kind "img_emb"."""
    return folder / kind / f"{kind}_{number:0{DIGITS}d}.{suffix}"


def pattern_of(kind: str, suffix: str) -> str:
    """Return a regular expression for the names that `file_of` gives files of a kind."""
    return rf"{kind}_\d{{{DIGITS}}}\.{suffix}"


def statistics_of(folder: Path, side: str) -> Path:
    """Return the path of the file with the sums of a side."""
    return folder / STATISTICS / f"{vectors_of(side)}.npy"


def index_of(folder: Path, side: str, suffix: str) -> Path:
    """Return the path of the approximate index of a side ("faiss"), or of its record ("json")."""
    return folder / INDEX / f"{vectors_of(side)}.{suffix}"


def shard_folder(folder: Path, index: int, count: int) -> Path:
    """Return the folder of one part of a job in `count` parts."""
    return folder / f"shard_{index}_of_{count}"
