"""Build a FAISS index from the vectors of a side, block by block, and measure its recall.

Memory holds the index itself, a block of vectors and, during training, a sample of vectors. The
index compares by inner product, whatever the lengths of the vectors are.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fastclip.atomic_file import remove_temporaries, replacing
from fastclip.data.quoting import quoted_text
from fastclip.embeddings.array_file import write_bytes
from fastclip.embeddings.layout import INDEX, index_of
from fastclip.embeddings.lock import locked
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.search.approximate.faiss_index import FaissIndex, import_faiss, reason_of
from fastclip.search.approximate.key import MEMORY, auto_key
from fastclip.search.approximate.recall import NUM_QUERIES, TOP, Recall, Sample, usable_rows
from fastclip.search.approximate.record import (
    IndexRecord,
    content_of,
    weights_of,
)
from fastclip.search.corpus import blocks_of, lengths_of, rows_of_block, side_of
from fastclip.search.fingerprint import StaleIndex, fingerprint_of

GOOD = 0.95  # the recall at which searches need not visit more of an index
POINTS = 64  # training vectors for each list; an index without lists takes 2^16


def build_index(
    embeddings: Embeddings,
    side: str,
    key: str = "auto",
    *,
    memory: int = MEMORY,
    queries: np.ndarray | None = None,
    top: int = TOP,
    num_queries: int = NUM_QUERIES,
    good: float = GOOD,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda text: None,
) -> IndexRecord:
    """Build an index of one side of embeddings, replacing an older one, and measure its recall.

    The search effort, which is the number of lists or neighbours that a search visits, is doubled
    until the recall is good. The effort is recorded, and used when the index is opened.

    Args:
        embeddings: the embeddings.
        side: "img" or "text".
        key: a key of FAISS's `index_factory`, for example "IVF4096,Flat"; "auto" chooses one, see
            `auto_key`.
        memory: how many bytes an index that "auto" chooses may take, and how many the sample of
            vectors for training.
        queries: (Q, D) float32 to measure the recall with. By default vectors of the other side are
            taken, as texts search images; if there are none, rows of the side itself.
        top, num_queries, seed: see `measured_recall`.
        good: the recall to reach, in [0, 1].
        progress: called with the number of vectors in the index, and the number of all vectors.
        tell: called with messages for the user.

    Raises:
        CannotWrite: the file or its folder cannot be written; an older index is left as it was.
        ModuleNotFoundError: FAISS is not installed.
        StaleIndex: the vectors have changed meanwhile.
        ValueError: there are no such vectors, or too few; FAISS rejects the key; or another process
            is building an index there.

    Example:
        >>> embeddings = open_embeddings("embeddings")
        >>> print(build_index(embeddings, "img").recall)
        recall@10 98.1% (93.2% to 99.5%), measured on 100 given queries
    """
    faiss = import_faiss()
    if not 0 <= good <= 1:
        raise ValueError(f"good must be in [0, 1], got {good}")
    vectors = side_of(embeddings, side)
    if queries is None:
        queries = _queries_of_other_side(embeddings, side, num_queries, seed)
    sample = Sample(vectors, top, queries=queries, num_queries=num_queries, seed=seed)
    key = auto_key(len(vectors), vectors.dim, memory) if key == "auto" else key
    with locked(embeddings.folder / INDEX):
        fingerprint = fingerprint_of(embeddings, vectors)
        try:
            engine = faiss.index_factory(vectors.dim, key, faiss.METRIC_INNER_PRODUCT)
            if not engine.is_trained:
                engine.train(_training_sample(faiss, engine, vectors, memory, seed))
            index = FaissIndex(engine, _fill(engine, vectors, progress))
            recall = _tuned(index, sample, good)
        except RuntimeError as error:
            raise ValueError(
                f"FAISS rejects the key {quoted_text(key)}: {reason_of(error)}"
            ) from None
        if fingerprint_of(embeddings, vectors) != fingerprint:
            raise StaleIndex(
                f"the vectors in {embeddings.folder} have changed while they were read; build the "
                "index again"
            )
        return _write(embeddings, vectors, key, index, recall, tell)


def _queries_of_other_side(
    embeddings: Embeddings, side: str, num: int, seed: int
) -> np.ndarray | None:
    other = embeddings.texts if side == "img" else embeddings.images
    if other is None:
        return None
    rows = usable_rows(other, num, seed)
    return other.rows(rows) if len(rows) else None


def _training_sample(faiss: Any, engine: Any, vectors: Side, memory: int, seed: int) -> np.ndarray:
    lists = faiss.try_extract_index_ivf(engine)
    wanted = max(2**16, POINTS * lists.nlist if lists is not None else 0)
    wanted = min(wanted, max(1, memory // (4 * vectors.dim)))
    return vectors.rows(usable_rows(vectors, wanted, seed))


def _fill(engine: Any, vectors: Side, progress: Callable[[int, int], None]) -> int:
    """Add all vectors to an index, zeros for unusable ones; return the number of unusable ones.

    Unusable vectors need a place because the number of a row is its place in the index. They are
    never found, because `approximate_search` drops them from the candidates.
    """
    num_unusable = 0
    for first, block in blocks_of(vectors.files, rows_of_block(vectors.files, None)):
        unusable = np.isnan(lengths_of(block))
        if unusable.any():
            block = np.where(unusable[:, None], np.float32(0), block)
            num_unusable += int(unusable.sum())
        engine.add(np.ascontiguousarray(block))
        progress(first + len(block), len(vectors))
    return num_unusable


def _tuned(index: FaissIndex, sample: Sample, good: float) -> Recall:
    """Increase the search effort of an index until the recall is good, and return the recall."""
    for effort in index.efforts:
        index.set_effort(effort)
        recall = sample.recall(index)
        if recall.value >= good:
            break
    return recall


def _write(
    embeddings: Embeddings, vectors: Side, key: str, index: FaissIndex, recall: Recall,
    tell: Callable[[str], None],
) -> IndexRecord:  # fmt: skip
    path, path_of_record = (
        index_of(embeddings.folder, vectors.name, kind) for kind in ("faiss", "json")
    )
    remove_temporaries(path.parent, r".*")
    digest, size = hashlib.sha256(), 0
    with replacing(path, tell) as file:

        def write(content: bytes) -> None:
            nonlocal size
            digest.update(content)
            size += file.write(content)

        faiss = import_faiss()
        faiss.write_index(index.engine, faiss.PyCallbackIOWriter(write))
        # Until its record is written, the new index has none and cannot be opened.
        path_of_record.unlink(missing_ok=True)
    record = IndexRecord(
        vectors.name, len(vectors), vectors.dim, fingerprint_of(embeddings, vectors),
        weights_of(embeddings), key, "ip", index.effort, index.num_unusable, size,
        digest.hexdigest(), recall,
    )  # fmt: skip
    write_bytes(path_of_record, [content_of(record)], tell)
    return record
