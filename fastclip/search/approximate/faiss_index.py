"""An index of FAISS as it is searched, and opened beside the embeddings that it is of."""

import os
import re
from typing import Any, NamedTuple

import numpy as np

from fastclip.data.quoting import first_line
from fastclip.embeddings.array_file import digest_of
from fastclip.embeddings.layout import index_of
from fastclip.embeddings.reader import Embeddings
from fastclip.installation import install_command
from fastclip.search.approximate.record import IndexRecord, read_record
from fastclip.search.corpus import side_of

FIRST_NEIGHBOURS, MOST_NEIGHBOURS = 16, 4096
# Before the reason, FAISS says where in its code an error is.
_PLACE = re.compile(r"^Error in .* at \S+:\d+: ", re.DOTALL)


class FaissIndex:
    """An index that proposes rows to `approximate_search`.

    Attributes:
        num_rows, dim: of the vectors.
        num_unusable: vectors that are not finite, or too long.
        record: what is known of it, if it comes from the disk.
    """

    def __init__(self, engine: Any, num_unusable: int, record: IndexRecord | None = None) -> None:
        self.engine, self.num_unusable, self.record = engine, num_unusable, record
        self._knob = _knob_of(engine)
        self.effort: int | None = None
        if record is not None:
            self.set_effort(record.effort)

    @property
    def num_rows(self) -> int:
        return self.engine.ntotal

    @property
    def dim(self) -> int:
        return self.engine.d

    @property
    def efforts(self) -> list[int | None]:
        """How many lists or neighbours a search may look at, from few to all.

        None alone if the index has no such number.
        """
        if self._knob is None:
            return [None]
        first, most = self._knob.first, self._knob.most
        doubled = [first << power for power in range(64) if first << power < most]
        return [*doubled, most]

    def set_effort(self, effort: int | None) -> None:
        """Choose how many lists or neighbours a search looks at.

        Raises:
            ValueError: the index has no such number, or lacks it.
        """
        if (effort is None) != (self._knob is None):
            raise ValueError(f"the index cannot be searched with an effort of {effort}")
        if effort is not None:
            import_faiss().ParameterSpace().set_index_parameter(
                self.engine, self._knob.name, effort
            )
        self.effort = effort

    def candidates(self, queries: np.ndarray, num: int) -> np.ndarray:
        """Return (Q, num) int64 numbers of rows for (Q, D) float32 queries; -1 stands for none."""
        return self.engine.search(np.ascontiguousarray(queries, np.float32), num)[1]


def has_index(embeddings: Embeddings, side: str) -> bool:
    """Say whether an index of a side, "img" or "text", has been built."""
    return index_of(embeddings.folder, side, "json").exists()


def open_index(embeddings: Embeddings, side: str, *, verify: bool = False) -> FaissIndex:
    """Open the index of one side of embeddings.

    Args:
        side: "img" or "text".
        verify: read the file once more, and compare its SHA-256 with the recorded one.

    Raises:
        FileNotFoundError: there is no index.
        ModuleNotFoundError: FAISS is not installed.
        OSError: a file cannot be read.
        StaleIndex: it is of other vectors than those that are there.
        ValueError: there are no such vectors, or a file is damaged or, if `verify`, has changed.

    Example:
        >>> embeddings = open_embeddings("embeddings")
        >>> index = open_index(embeddings, "img")
        >>> index.record.key, index.record.recall.value
        ('HNSW32', 0.981)
    """
    vectors = side_of(embeddings, side)
    path, path_of_record = (index_of(embeddings.folder, side, kind) for kind in ("faiss", "json"))
    if not has_index(embeddings, side):
        raise FileNotFoundError(
            f"{embeddings.folder} has no index of {vectors.name}: `fastclip index --faiss auto` "
            "builds one"
        )
    record = read_record(path_of_record)
    record.require_current(embeddings, vectors)
    if path.stat().st_size != record.size or (verify and digest_of(path) != record.sha256):
        raise ValueError(f"{path} is not what was written: build the index anew")
    faiss = import_faiss()
    try:
        engine = faiss.read_index(os.fspath(path))
        index = FaissIndex(engine, record.num_unusable, record)
    except RuntimeError as error:
        raise ValueError(f"{path} is no index of FAISS: {reason_of(error)}") from None
    if (record.side, index.num_rows, index.dim) != (side, record.rows, record.dim):
        raise ValueError(f"{path} is not what {path_of_record.name} says: build the index anew")
    return index


class _Knob(NamedTuple):
    """A number by which a search looks at more of an index: its name, and from where to where."""

    name: str
    first: int
    most: int


def _knob_of(engine: Any) -> _Knob | None:
    faiss = import_faiss()
    if (lists := faiss.try_extract_index_ivf(engine)) is not None:
        return _Knob("nprobe", 1, lists.nlist)
    inner = faiss.downcast_index(engine)
    while isinstance(inner, faiss.IndexPreTransform | faiss.IndexRefine):
        held = inner.index if isinstance(inner, faiss.IndexPreTransform) else inner.base_index
        inner = faiss.downcast_index(held)
    if isinstance(inner, faiss.IndexHNSW):
        return _Knob("efSearch", FIRST_NEIGHBOURS, MOST_NEIGHBOURS)
    return None


def reason_of(error: RuntimeError) -> str:
    """Return what FAISS objects to, in one line."""
    return first_line(ValueError(_PLACE.sub("", str(error))))


def import_faiss() -> Any:
    """Return the module, or raise ModuleNotFoundError that says how to install it."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"An approximate index needs faiss: {install_command('search')}"
        ) from error
    return faiss
