"""Reads and writes arrays as .npy files: written whole or not at all, read without running code."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from fastclip.atomic_file import replacing
from fastclip.data.quoting import first_line
from fastclip.data.regular_file import open_regular

Tell = Callable[[str], None]
CHUNK = 2**20  # bytes that are read at a time


def write_array(path: Path, array: np.ndarray, tell: Tell = lambda text: None) -> str:
    """Write an array to a file, replacing the old file; return the SHA-256 of the new one.

    Raises:
        CannotWrite: the disk or the folder cannot be written to; the old file is left as it was.
    """
    array = np.ascontiguousarray(array)
    return write_bytes(path, [_header(array.shape, array.dtype), _bytes_of(array)], tell)


def write_blocks(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[np.ndarray]
) -> str:
    """Write an array that is given in blocks of rows, one block at a time, as `write_array` does.

    Raises:
        CannotWrite: see `write_array`.
        ValueError: the blocks are not an array of this shape and type.
    """

    def pieces() -> Iterator[bytes | memoryview]:
        yield _header(shape, np.dtype(dtype))
        rows = 0
        for block in blocks:
            if block.dtype != dtype or block.shape[1:] != shape[1:]:
                raise ValueError(
                    f"blocks must be of {np.dtype(dtype)} and fit shape {shape}, got {block.dtype} "
                    f"of shape {block.shape}"
                )
            rows += len(block)
            yield _bytes_of(np.ascontiguousarray(block))
        if rows != shape[0]:
            raise ValueError(f"blocks must have {shape[0]:,} rows together, got {rows:,}")

    return write_bytes(path, pieces())


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    values = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, values)
    return header.getvalue()


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def write_bytes(
    path: Path, pieces: Iterable[bytes | memoryview], tell: Tell = lambda text: None
) -> str:
    """Write bytes, piece after piece, as `write_array` does; the folder is made if missing."""
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, tell) as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def open_array(path: Path, ndim: int, dtypes: tuple[type, ...]) -> np.ndarray:
    """Return the array in a file, mapped into memory: rows are read when they are accessed.

    Args:
        ndim, dtypes: how many dimensions the array must have, and which types it may have.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has no such array, is truncated, or is longer than its array.
    """
    with open_regular(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            shape, is_fortran, dtype = read_header(file)
        except (ValueError, AttributeError, EOFError) as error:
            raise ValueError(f"{path} is not a numpy array: {first_line(error)}") from None
        start, size = file.tell(), file.seek(0, io.SEEK_END)
    if dtype not in dtypes or len(shape) != ndim or is_fortran:
        raise ValueError(
            f"{path} must have {ndim} dimensions of {' or '.join(t.__name__ for t in dtypes)}, "
            f"row after row, got {dtype} of shape {shape}"
        )
    expected = start + dtype.itemsize * int(np.prod(shape, dtype=object))
    if size != expected:
        raise ValueError(f"{path} has {size:,} bytes, but should have {expected:,} by its header")
    if size == start:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape)
