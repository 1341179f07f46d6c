"""Read vectors as blocks of float32, from arrays, mapped files or a side of embeddings."""

from collections.abc import Iterator, Sequence

import numpy as np

from fastclip.embeddings.layout import SIDES
from fastclip.embeddings.reader import Embeddings
from fastclip.embeddings.side import Side
from fastclip.embeddings.storage import DTYPES, Stored, to_float32

Vectors = Side | Stored | np.ndarray | Sequence[Stored | np.ndarray]
CALLED = {"img": "images", "text": "texts"}  # the users' names of the sides
BLOCK_BYTES = 2**24  # bytes of float32 that are processed at a time
LONGEST = 2.0**60  # the longest usable vector, so that products of two stay within float32


def side_of(embeddings: Embeddings, side: str) -> Side:
    """Return the vectors of the side "img" or "text"; raise ValueError if there are none."""
    if side not in SIDES:
        raise ValueError(f"side must be one of {SIDES}, got {side!r}")
    vectors = embeddings.images if side == "img" else embeddings.texts
    if vectors is None or len(vectors) == 0:
        raise ValueError(f"{embeddings.folder} has no vectors of {CALLED[side]}")
    return vectors


def files_of(vectors: Vectors) -> tuple[Stored, ...]:
    """Return vectors as a list of files, whose rows are numbered one after the other.

    Args:
        vectors: a side of opened embeddings, or one or several (n, D) arrays of float32, float16
            or, with their scale factors, int8 (`Stored`). All of them may be mapped files.

    Raises:
        ValueError: there is no array, one has another type or shape, or their D differ.
    """
    if isinstance(vectors, Side):
        return vectors.files
    parts = [vectors] if isinstance(vectors, Stored | np.ndarray) else list(vectors)
    files = tuple(part if isinstance(part, Stored) else Stored(part) for part in parts)
    if not files:
        raise ValueError("there are no vectors: the list of arrays is empty")
    for values, scales in files:
        if values.ndim != 2 or values.dtype not in DTYPES.values():
            raise ValueError(
                "vectors must be (n, D) of float32, float16 or int8, got "
                f"{values.dtype} of shape {values.shape}"
            )
        if (values.dtype == np.int8) != (scales is not None):
            raise ValueError("int8 vectors, and no others, must have scale factors, one per vector")
        if scales is not None and scales.shape != values.shape[:1]:
            raise ValueError(
                f"there must be one scale factor per vector, got factors of shape {scales.shape} "
                f"for {len(values):,} vectors"
            )
    dims = sorted({file.values.shape[1] for file in files})
    if len(dims) > 1 or dims[0] == 0:
        raise ValueError(f"all vectors must have the same width D above 0, got {dims}")
    return files


def dim_of(files: tuple[Stored, ...]) -> int:
    """Return D, the number of entries of a vector."""
    return files[0].values.shape[1]


def num_rows(files: tuple[Stored, ...]) -> int:
    """Return the number of rows of all files."""
    return sum(len(file.values) for file in files)


def rows_of_block(files: tuple[Stored, ...], block_rows: int | None) -> int:
    """Return the number of rows to process at a time: `block_rows`, or 16 MiB of float32.

    Raises:
        ValueError: `block_rows` is below 1.
    """
    if block_rows is None:
        return max(1, BLOCK_BYTES // (4 * dim_of(files)))
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}")
    return block_rows


def blocks_of(
    files: tuple[Stored, ...], size: int, first: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield blocks of rows: (number of the first row, (n, D) float32), with n at most `size`.

    Vectors that are stored as float32 are not copied; other types are converted block by block.

    Args:
        files: the vectors.
        size: the most rows of a block.
        first: the row to start from.
    """
    start = 0
    for values, scales in files:
        for row in range(max(0, first - start), len(values), size):
            part = slice(row, row + size)
            block = np.asarray(values[part])
            if block.dtype != np.float32:
                block = to_float32(Stored(block, None if scales is None else scales[part]))
            yield start + row, block
        start += len(values)


def lengths_of(rows: np.ndarray) -> np.ndarray:
    """Return the lengths of (n, D) float32 rows; nan for a row that is not finite or too long."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return np.where(lengths <= LONGEST, lengths, np.float32(np.nan))
