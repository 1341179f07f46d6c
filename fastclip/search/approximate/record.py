"""The record of an index on the disk: how it was built, and from which vectors."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fastclip.data.json_file import read_json_object
from fastclip.data.quoting import first_line, some_of
from fastclip.embeddings.layout import SIDES, vectors_of
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.search.approximate.recall import Recall
from fastclip.search.fingerprint import StaleIndex, fingerprint_of

FORMAT, VERSION = "fastclip index", 1


@dataclass(frozen=True)
class IndexRecord:
    """How an index was built, and from which vectors.

    Attributes:
        side: "img" or "text".
        rows, dim: the number and the width of the vectors.
        vectors: the fingerprint of the vectors; see `fingerprint.py`.
        weights: SHA-256 of the model's weights; None if the model is not known.
        key: the key of FAISS's `index_factory`.
        metric: "ip", the inner product.
        effort: how many lists or neighbours a search visits; None if the index has no such number.
        num_unusable: the number of rows that are not finite or too long.
        size: the size of the index file in bytes.
        sha256: the SHA-256 of the index file.
        recall: the measured recall.
    """

    side: str
    rows: int
    dim: int
    vectors: str
    weights: str | None
    key: str
    metric: str
    effort: int | None
    num_unusable: int
    size: int
    sha256: str
    recall: Recall

    def require_current(self, embeddings: Embeddings, side: Side) -> None:
        """Raise StaleIndex unless the index belongs to these vectors."""
        why = None
        if self.rows != len(side):
            why = f"has {self.rows:,} rows, but there are {len(side):,}"
        elif self.dim != side.dim:
            why = f"has vectors of {self.dim} entries, but the current ones have {side.dim}"
        elif self.weights != weights_of(embeddings):
            why = "has vectors of another model"
        elif self.vectors != fingerprint_of(embeddings, side):
            why = "has other vectors than the current ones"
        if why is not None:
            raise StaleIndex(
                f"the index of {vectors_of(self.side)} in {embeddings.folder} {why}; build it "
                "again, or search without it"
            )


def weights_of(embeddings: Embeddings) -> str | None:
    """Return the SHA-256 of the weights that made the vectors; None if it is not known."""
    manifest = embeddings.manifest
    return None if manifest is None or manifest.model is None else manifest.model.weights


def content_of(record: IndexRecord) -> bytes:
    """Return a record as JSON."""
    values = {"format": FORMAT, "version": VERSION} | asdict(record)
    return json.dumps(values, indent=1, allow_nan=False).encode() + b"\n"


def read_record(path: Path) -> IndexRecord:
    """Read the record of an index.

    Raises:
        FileNotFoundError: there is no record.
        OSError: the record cannot be read.
        ValueError: the record is damaged, or has another version.
    """
    values = read_json_object(path)
    found = (values.pop("format", None), values.pop("version", None))
    if found != (FORMAT, VERSION):
        raise ValueError(f"{path} is not a {FORMAT!r} of version {VERSION}; build the index again")
    try:
        recall = Recall(**_checked(Recall, values.get("recall")))
        record = IndexRecord(**(_checked(IndexRecord, values) | {"recall": recall}))
        for name, holds in (
            ("side", record.side in SIDES), ("metric", record.metric == "ip"),
            ("rows", record.rows > 0), ("dim", record.dim > 0), ("size", record.size > 0),
            ("effort", record.effort is None or record.effort > 0),
            ("num_unusable", 0 <= record.num_unusable < record.rows),
        ):  # fmt: skip
            _require(holds, name)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}") from None
    return record


_TYPES: dict[str, tuple[type, ...]] = {
    "rows": (int,), "dim": (int,), "weights": (str, type(None)), "effort": (int, type(None)),
    "num_unusable": (int,), "size": (int,), "recall": (dict,), "value": (float, int),
    "low": (float, int), "high": (float, int), "top": (int,), "num_queries": (int,),
}  # fmt: skip


def _checked(kind: type, values: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, or raise a ValueError if one is missing or wrong."""
    names = {field.name for field in fields(kind)}
    if not isinstance(values, dict) or set(values) != names:
        wrong = set(values) ^ names if isinstance(values, dict) else {kind.__name__}
        raise ValueError(f"these fields are unknown or missing: {some_of(sorted(wrong), 8)}")
    for name, value in values.items():
        _require(type(value) in _TYPES.get(name, (str,)), name)
    return values


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise ValueError(f"the field {name} has an impossible value")
