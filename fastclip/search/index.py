"""What is computed once for a folder of embeddings, so that queries are quick and know chance.

    index/img.json           what the index is of; written last
    index/img_vectors.npy    (n, D) float32, if the vectors are stored as float16 or int8
    index/img_moments.npy    (D + 1, D) float64: sums, if the embeddings do not have them
    index/img_captions.npy   (r,) float64: of each of r captions, how near its best match is

The same stands for texts, with "text" in place of "img". An index of other vectors than those that
are there, or of another model, is refused.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from fastclip.data.json_file import read_json_object
from fastclip.data.quoting import quoted
from fastclip.embeddings.array_file import open_array, write_array, write_blocks, write_bytes
from fastclip.embeddings.layout import vectors_of
from fastclip.embeddings.moments import Moments
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.models.inference import InferenceModel
from fastclip.search.calibration import CaptionNull
from fastclip.search.corpus import blocks_of, files_of, rows_of_block
from fastclip.search.encoding import told_apart, vectors_of_texts

FOLDER = "index"
FORMAT, VERSION = "fastclip search index", 1
FEWEST_TOLD_APART = 0.9  # of captions


class UnknownCaptions(ValueError):
    """Captions in words that a model's tokenizer does not know."""


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
        if self.captions is None or own == _encoder_of(ready):
            return None
        return f"the captions of the index were encoded by another model than {ready.name}"


def build_index(
    embeddings: Embeddings,
    side: Side,
    ready: InferenceModel | None = None,
    captions: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Index:
    """Compute and write the index of one side of opened embeddings, in place of an older one.

    Args:
        ready: the model of the embeddings, if captions are to be asked.
        captions: texts such as people search for, whatever the corpus shows.
        tell: called with a sentence before each step.

    Raises:
        CannotCalibrate: there are too few captions for any score to stand out.
        UnknownCaptions: the model's tokenizer does not tell the captions apart; nothing is written.
        CannotWrite: the disk or the folder refuses.

    Example:
        >>> found = open_embeddings("embeddings")
        >>> build_index(found, found.images, open_model("logs/my-run"), read_captions())
    """
    if captions:
        _require_known(ready, captions)
    folder = embeddings.folder / FOLDER
    _record_of(folder, side).unlink(missing_ok=True)  # of what is about to be replaced
    record = IndexRecord(mark_of(embeddings, side))
    vectors = moments = null = None
    if side.dtype != np.float32:
        tell(f"converting {len(side):,} vectors from {side.dtype} to float32")
        files = files_of(side)
        blocks = (block for _, block in blocks_of(files, rows_of_block(files, None)))
        write_blocks(_vectors_of(folder, side), (len(side), side.dim), np.dtype("f4"), blocks)
        vectors = _open_vectors(folder, side)
    if side.known_moments is None:
        tell(f"summing up {len(side):,} vectors, for their mean and covariance")
        moments = side.moments
        write_array(_moments_of(folder, side), moments.sums)
    if captions:
        tell(f"asking {len(captions):,} captions, which say what chance gives")
        queries = vectors_of_texts(ready, captions)
        null = CaptionNull.of(queries, side if vectors is None else vectors)
        write_array(_captions_of(folder, side), null.best)
        record = IndexRecord(record.vectors, *_encoder_of(ready), len(captions))
    values = {"format": FORMAT, "version": VERSION} | asdict(record)
    write_bytes(_record_of(folder, side), [json.dumps(values, indent=1).encode() + b"\n"])
    return Index(record, vectors, moments, null)


def open_index(embeddings: Embeddings, side: Side) -> Index | None:
    """Open the index of one side of embeddings; None if there is none.

    Raises:
        OSError: a file cannot be read.
        StaleIndex: the index is damaged, or is of other vectors than those that are there.
    """
    folder = embeddings.folder / FOLDER
    path = _record_of(folder, side)
    if not path.exists():
        return None
    record = _read_record(path)
    if record.vectors != mark_of(embeddings, side):
        raise StaleIndex(f"{path} is of other vectors: run `fastclip index` again")
    try:
        vectors = None if side.dtype == np.float32 else _open_vectors(folder, side)
        moments = null = None
        if side.known_moments is None:
            sums = np.array(open_array(_moments_of(folder, side), 2, (np.float64,)))
            moments = Moments(len(side), sums)
        if record.num_captions:
            null = CaptionNull(np.array(open_array(_captions_of(folder, side), 1, (np.float64,))))
    except ValueError as error:
        raise StaleIndex(f"{error}: run `fastclip index` again") from None
    if vectors is not None and vectors.shape != (len(side), side.dim):
        raise StaleIndex(f"{_vectors_of(folder, side)} has other rows: run `fastclip index` again")
    if moments is not None and moments.sums.shape != (side.dim + 1, side.dim):
        raise StaleIndex(f"{_moments_of(folder, side)} is damaged: run `fastclip index` again")
    if null is not None and len(null.best) != record.num_captions:
        raise StaleIndex(f"{_captions_of(folder, side)} is cut: run `fastclip index` again")
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


def _encoder_of(ready: InferenceModel) -> tuple[str, str, str]:
    """What the features of texts depend on."""
    return ready.digests.weights, ready.digests.configuration, ready.digests.tokenizer


def _require_known(ready: InferenceModel | None, captions: Sequence[str]) -> None:
    if ready is None:
        raise ValueError("captions need the model that encodes them")
    num = len(told_apart(ready, captions))
    if num < FEWEST_TOLD_APART * len(captions):
        raise UnknownCaptions(
            f"the tokenizer of {ready.name} tells {num:,} of {len(captions):,} captions apart: it "
            "does not know their words"
        )


def _read_record(path: Path) -> IndexRecord:
    values = read_json_object(path, StaleIndex)
    head = (values.pop("format", None), values.pop("version", None))
    if head != (FORMAT, VERSION):
        raise StaleIndex(f"{path} is of format {quoted(head)}: run `fastclip index` again")
    types = {field.name: field.type for field in fields(IndexRecord)}
    if values.keys() != types.keys() or any(type(values[n]) is not t for n, t in types.items()):
        raise StaleIndex(f"{path} is damaged: run `fastclip index` again")
    return IndexRecord(**values)


def _open_vectors(folder: Path, side: Side) -> np.ndarray:
    return open_array(_vectors_of(folder, side), 2, (np.float32,))


def _record_of(folder: Path, side: Side) -> Path:
    return folder / f"{side.name}.json"


def _vectors_of(folder: Path, side: Side) -> Path:
    return folder / f"{side.name}_vectors.npy"


def _moments_of(folder: Path, side: Side) -> Path:
    return folder / f"{side.name}_moments.npy"


def _captions_of(folder: Path, side: Side) -> Path:
    return folder / f"{side.name}_captions.npy"
