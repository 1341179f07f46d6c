"""What `fastclip index` computes once for a folder of embeddings, for quick, calibrated queries.

    index/img_prepared.json  identifies the vectors and the model; written last
    index/img_vectors.npy    (n, D) float32, if the vectors are stored as float16 or int8
    index/img_moments.npy    (D + 1, D) float64: sums, if the embeddings do not have them
    index/img_captions.npy   (r,) float64: the score of the best match of each of r captions

For texts, the names have "text" in place of "img". Files that were computed from other vectors than
the current ones, or with another model, raise an error.
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
    """The paths of these files for one side of embeddings.

    Attributes:
        folder: the folder of indexes.
        name: the name of the side, "img" or "text".
    """

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
    """The vectors and the model to which the files belong.

    Attributes:
        vectors: the fingerprint of the vectors; see `fingerprint.py`.
        weights, configuration, tokenizer: digests of the model that encoded the captions; ""
            without captions.
        num_captions: the number of captions.
    """

    vectors: str
    weights: str = ""
    configuration: str = ""
    tokenizer: str = ""
    num_captions: int = 0


@dataclass(frozen=True, eq=False)
class Prepared:
    """The contents of these files.

    Attributes:
        record: the vectors and the model to which the files belong.
        vectors: (n, D) float32, mapped into memory; None if the embeddings are float32 themselves.
        moments: the mean and covariance of all vectors; None if the embeddings have them.
        captions: the best scores of captions; None if there are no captions.
    """

    record: PreparedRecord
    vectors: np.ndarray | None = None
    moments: Moments | None = None
    captions: CaptionNull | None = None

    def objection_to(self, ready: InferenceModel) -> str | None:
        """Return why the captions cannot be used with a model, or None if they can."""
        record = self.record
        own = (record.weights, record.configuration, record.tokenizer)
        if self.captions is None or own == encoder_of(ready):
            return None
        return f"the captions were encoded by another model than {ready.name}"


def open_prepared(embeddings: Embeddings, side: Side) -> Prepared | None:
    """Open what `fastclip index` prepared for one side of embeddings; None if it has not run.

    Raises:
        OSError: a file cannot be read.
        StaleIndex: a file is damaged, or belongs to other vectors than the current ones.
    """
    files = PreparedFiles.of(embeddings, side)
    if not files.record.exists():
        return None
    record = _read_record(files.record)
    if record.vectors != fingerprint_of(embeddings, side):
        raise StaleIndex(f"{files.record} belongs to other vectors; {AGAIN}")
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
    """Return the digests of everything that the features of texts depend on."""
    return ready.digests.weights, ready.digests.configuration, ready.digests.tokenizer


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    try:
        found = open_array(path, len(shape), (dtype,))
    except ValueError as error:
        raise StaleIndex(f"{error}; {AGAIN}") from None
    if found.shape != shape:
        raise StaleIndex(f"{path} has the shape {found.shape}, not {shape}; {AGAIN}")
    return found


def _read_record(path: Path) -> PreparedRecord:
    values = read_json_object(path, StaleIndex)
    head = (values.pop("format", None), values.pop("version", None))
    if head != (FORMAT, VERSION):
        raise StaleIndex(
            f"{path} has the format {quoted(head)}, not {quoted((FORMAT, VERSION))}; {AGAIN}"
        )
    types = {field.name: field.type for field in fields(PreparedRecord)}
    if values.keys() != types.keys() or any(type(values[n]) is not t for n, t in types.items()):
        raise StaleIndex(f"{path} is damaged; {AGAIN}")
    return PreparedRecord(**values)
