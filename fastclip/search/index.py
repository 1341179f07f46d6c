"""What is computed once for a folder of embeddings, so that queries are quick and know chance.

    index/img.json           what the index is of; written last
    index/img_vectors.npy    (n, D) float32, if the vectors are stored as float16 or int8
    index/img_moments.npy    (D + 1, D) float64: sums, if the embeddings do not have them
    index/img_captions.npy   (r,) float64: of each of r captions, how near its best match is

The same stands for texts, with "text" in place of "img". An index of other vectors than those that
are there, or of another model, is refused.
"""

import hashlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastclip.data.json_file import read_json_object
from fastclip.data.quoting import quoted
from fastclip.embeddings.array_file import open_array
from fastclip.embeddings.layout import vectors_of
from fastclip.embeddings.moments import Moments
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.models.inference import InferenceModel
from fastclip.search.calibration import CaptionNull

FOLDER = "index"
FORMAT, VERSION = "fastclip search index", 1
AGAIN = "run `fastclip index` again"


class IndexFiles(NamedTuple):
    """Where the index of one side is: `folder` is that of the index, `name` the side's."""

    folder: Path
    name: str

    @classmethod
    def of(cls, embeddings: Embeddings, side: Side) -> "IndexFiles":
        return cls(embeddings.folder / FOLDER, side.name)

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def vectors(self) -> Path:
        return self.folder / f"{self.name}_vectors.npy"

    @property
    def moments(self) -> Path:
        return self.folder / f"{self.name}_moments.npy"

    @property
    def captions(self) -> Path:
        return self.folder / f"{self.name}_captions.npy"


class StaleIndex(ValueError):
    """An index that cannot be read, or is not of these vectors; the message names the file."""


@dataclass(frozen=True)
class IndexRecord:
    """Attributes:
    vectors: what the vectors are known by; see `mark_of`.
    weights, configuration, tokenizer: digests of the model that encoded the captions; "" without
        captions.
    num_captions: how many captions there are.
    """

    vectors: str
    weights: str = ""
    configuration: str = ""
    tokenizer: str = ""
    num_captions: int = 0


@dataclass(frozen=True, eq=False)
class Index:
    """Attributes:
    record: what the index is of.
    vectors: (n, D) float32, mapped into memory; None if the embeddings have such themselves.
    moments: of all vectors; None likewise.
    captions: how near other people's captions are; None if none were asked.
    """

    record: IndexRecord
    vectors: np.ndarray | None = None
    moments: Moments | None = None
    captions: CaptionNull | None = None

    def objection_to(self, ready: InferenceModel) -> str | None:
        """Say why the captions are not those of a model; None if they are, or there are none."""
        record = self.record
        own = (record.weights, record.configuration, record.tokenizer)
        if self.captions is None or own == encoder_of(ready):
            return None
        return f"the captions of the index were encoded by another model than {ready.name}"


def open_index(embeddings: Embeddings, side: Side) -> Index | None:
    """Open the index of one side of embeddings; None if there is none.

    Raises:
        OSError: a file cannot be read.
        StaleIndex: the index is damaged, or is of other vectors than those that are there.
    """
    files = IndexFiles.of(embeddings, side)
    if not files.record.exists():
        return None
    record = _read_record(files.record)
    if record.vectors != mark_of(embeddings, side):
        raise StaleIndex(f"{files.record} is of other vectors: {AGAIN}")
    vectors = moments = null = None
    if side.dtype != np.float32:
        vectors = _array(files.vectors, (len(side), side.dim), np.float32)
    if side.known_moments is None:
        sums = _array(files.moments, (side.dim + 1, side.dim), np.float64)
        moments = Moments(len(side), np.array(sums))
    if record.num_captions:
        null = CaptionNull(np.array(_array(files.captions, (record.num_captions,), np.float64)))
    return Index(record, vectors, moments, null)


def mark_of(embeddings: Embeddings, side: Side) -> str:
    """Return what the vectors of a side are known by, without reading them.

    It is a digest of the digests in the manifest; where there is none, of names, sizes and times.
    """
    digest = hashlib.sha256(f"{len(side)} {side.dim}".encode())
    for _, manifest in embeddings.parts:
        for file in manifest.files:
            digest.update(file.sha256[vectors_of(side.name)].encode())
    if not embeddings.parts:
        for values, _ in side.files:
            path = getattr(values, "filename", None)
            if path is not None:  # an empty array is not mapped
                found = os.stat(path)
                mark = (os.path.basename(path), found.st_size, found.st_mtime_ns)
                digest.update(repr(mark).encode())
    return digest.hexdigest()


def encoder_of(ready: InferenceModel) -> tuple[str, str, str]:
    """What the features of texts depend on."""
    return ready.digests.weights, ready.digests.configuration, ready.digests.tokenizer


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    try:
        found = open_array(path, len(shape), (dtype,))
    except ValueError as error:
        raise StaleIndex(f"{error}: {AGAIN}") from None
    if found.shape != shape:
        raise StaleIndex(f"{path} has the shape {found.shape}, not {shape}: {AGAIN}")
    return found


def _read_record(path: Path) -> IndexRecord:
    values = read_json_object(path, StaleIndex)
    head = (values.pop("format", None), values.pop("version", None))
    if head != (FORMAT, VERSION):
        raise StaleIndex(f"{path} is of format {quoted(head)}: {AGAIN}")
    types = {field.name: field.type for field in fields(IndexRecord)}
    if values.keys() != types.keys() or any(type(values[n]) is not t for n, t in types.items()):
        raise StaleIndex(f"{path} is damaged: {AGAIN}")
    return IndexRecord(**values)
