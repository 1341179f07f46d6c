"""What is computed once for a folder of embeddings, so that queries are quick and know chance.

    index/img_prepared.json  what it is of; written last
    index/img_vectors.npy    (n, D) float32, if the vectors are stored as float16 or int8
    index/img_moments.npy    (D + 1, D) float64: sums, if the embeddings do not have them
    index/img_captions.npy   (r,) float64: of each of r captions, how near its best match is

The same stands for texts, with "text" in place of "img". What was computed of other vectors than
those that are there, or by another model, is refused.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastclip.data.json_file import read_json_object
from fastclip.data.quoting import quoted
from fastclip.embeddings.array_file import open_array
from fastclip.embeddings.layout import INDEX
from fastclip.embeddings.moments import Moments
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.models.inference import InferenceModel
from fastclip.search.calibration import CaptionNull
from fastclip.search.fingerprint import StaleIndex, fingerprint_of

FORMAT, VERSION = "fastclip prepared search", 1
AGAIN = "run `fastclip index` again"


class PreparedFiles(NamedTuple):
    """Where that is of one side: `folder` is that of indexes, `name` the side's."""

    folder: Path
    name: str

    @classmethod
    def of(cls, embeddings: Embeddings, side: Side) -> "PreparedFiles":
        return cls(embeddings.folder / INDEX, side.name)

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}_prepared.json"

    @property
    def vectors(self) -> Path:
        return self.folder / f"{self.name}_vectors.npy"

    @property
    def moments(self) -> Path:
        return self.folder / f"{self.name}_moments.npy"

    @property
    def captions(self) -> Path:
        return self.folder / f"{self.name}_captions.npy"


@dataclass(frozen=True)
class PreparedRecord:
    """Attributes:
    vectors: what the vectors are known by; see `fingerprint.py`.
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
class Prepared:
    """Attributes:
    record: what the index is of.
    vectors: (n, D) float32, mapped into memory; None if the embeddings have such themselves.
    moments: of all vectors; None likewise.
    captions: how near other people's captions are; None if none were asked.
    """

    record: PreparedRecord
    vectors: np.ndarray | None = None
    moments: Moments | None = None
    captions: CaptionNull | None = None

    def objection_to(self, ready: InferenceModel) -> str | None:
        """Say why the captions are not those of a model; None if they are, or there are none."""
        record = self.record
        own = (record.weights, record.configuration, record.tokenizer)
        if self.captions is None or own == encoder_of(ready):
            return None
        return f"the captions were encoded by another model than {ready.name}"


def open_prepared(embeddings: Embeddings, side: Side) -> Prepared | None:
    """Open what was prepared of one side of embeddings; None if nothing was.

    Raises:
        OSError: a file cannot be read.
        StaleIndex: it is damaged, or of other vectors than those that are there.
    """
    files = PreparedFiles.of(embeddings, side)
    if not files.record.exists():
        return None
    record = _read_record(files.record)
    if record.vectors != fingerprint_of(embeddings, side):
        raise StaleIndex(f"{files.record} is of other vectors: {AGAIN}")
    vectors = moments = null = None
    if side.dtype != np.float32:
        vectors = _array(files.vectors, (len(side), side.dim), np.float32)
    if side.known_moments is None:
        sums = _array(files.moments, (side.dim + 1, side.dim), np.float64)
        moments = Moments(len(side), np.array(sums))
    if record.num_captions:
        null = CaptionNull(np.array(_array(files.captions, (record.num_captions,), np.float64)))
    return Prepared(record, vectors, moments, null)


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


def _read_record(path: Path) -> PreparedRecord:
    values = read_json_object(path, StaleIndex)
    head = (values.pop("format", None), values.pop("version", None))
    if head != (FORMAT, VERSION):
        raise StaleIndex(f"{path} is of format {quoted(head)}: {AGAIN}")
    types = {field.name: field.type for field in fields(PreparedRecord)}
    if values.keys() != types.keys() or any(type(values[n]) is not t for n, t in types.items()):
        raise StaleIndex(f"{path} is damaged: {AGAIN}")
    return PreparedRecord(**values)
