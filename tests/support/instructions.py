"""Single instructions and parts of kernels in the emulator, as functions of arrays."""

import ctypes
import functools

import numpy as np

from tests.support.emulator import FOLDER, ROOT, build_with

SOURCE = ROOT / "tests" / "backends" / "cuda" / "instructions.cpp"
LIBRARY = FOLDER / "instructions.so"


def multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a: (32, 8) float16, b: (32, 4) float16, c: (32, 4) float32, of lanes."""
    c = c.astype(np.float32, order="C")
    _call("multiply_add", _float16(a), _float16(b), c)
    return c


def load_matrices(rows: np.ndarray) -> np.ndarray:
    """rows: (32, 8), those whose addresses lanes give. Returns (32, 8), what lanes receive."""
    received = np.zeros((32, 8), np.uint16)
    _call("load_matrices", rows.astype(np.uint16, order="C"), received)
    return received


def store_matrices(registers: np.ndarray) -> np.ndarray:
    rows = np.zeros((32, 8), np.uint16)
    _call("store_matrices", registers.astype(np.uint16, order="C"), rows)
    return rows


def portable_places() -> np.ndarray:
    """(lane, m, n, i, 2): row and column of acc[m][n][i] in the part of a warp."""
    places = np.full((32, 2, 8, 4, 2), -1, np.int32)
    _call("portable_places", places)
    return places


def hopper_places() -> np.ndarray:
    """(thread of a warpgroup, m, n, i, 2): likewise."""
    places = np.full((128, 1, 32, 4, 2), -1, np.int32)
    _call("hopper_places", places)
    return places


def descriptor(offset: int, bytes_further: int) -> int:
    function = _library().emulated_descriptor
    function.restype = ctypes.c_uint64
    return function(offset, bytes_further)


def multiply_64x256(rows: np.ndarray, cols: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    """c: (thread, 128), added to where k > 0. rows, cols: of 64 features each, as they lie."""
    c = c.astype(np.float32, order="C")
    assert rows.size == 64 * 64 and cols.size == 256 * 64
    _call("multiply_64x256", _float16(rows), _float16(cols), c, ctypes.c_int(k))
    return c


def box_positions() -> np.ndarray:
    """(256, 64): where in shared memory, in bytes, the copy engine puts a number of two boxes."""
    values, image = np.arange(256 * 64, dtype=np.uint16), np.zeros(256 * 64, np.uint16)
    _call("boxes", values, image)
    return _positions(image).reshape(256, 64)


def stage_positions() -> np.ndarray:
    """(256, 32): where the portable kernels put features of 128 rows and 128 columns."""
    values, image = np.arange(256 * 32, dtype=np.uint16), np.zeros(256 * 32, np.uint16)
    _call("stage", values[: 128 * 32], values[128 * 32 :], image)
    return _positions(image).reshape(256, 32)


def staged_tile_positions() -> np.ndarray:
    """(128, 128): where the portable kernels put a tile on its way out."""
    return _tile_positions("staged_tile", (128, 128), _library().emulated_staged_bytes() // 2)


def stored_tile_positions() -> np.ndarray:
    """(128, 256): likewise Hopper's."""
    return _tile_positions("stored_tile", (128, 256), 128 * 256)


def _tile_positions(function: str, shape: tuple[int, int], size: int) -> np.ndarray:
    # float16 has not numbers enough for all elements: rows and columns one after the other.
    images = []
    for index in np.indices(shape):
        images.append(np.full(size, np.nan, np.float16))
        _call(function, index.astype(np.float32), images[-1])
    rows, cols = images
    used = ~np.isnan(rows)
    numbers = np.full(size, -1)
    numbers[used] = rows[used].astype(int) * shape[1] + cols[used].astype(int)
    positions = np.full(shape[0] * shape[1], -1)
    positions[numbers[used]] = 2 * np.flatnonzero(used)
    assert (positions >= 0).all() and used.sum() == positions.size
    return positions.reshape(shape)


def _positions(image: np.ndarray) -> np.ndarray:
    assert (np.sort(image) == np.arange(len(image))).all()
    return 2 * np.argsort(image)


def _float16(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16, order="C")


def _call(name: str, *arguments: np.ndarray | ctypes.c_int) -> None:
    function = getattr(_library(), f"emulated_{name}")
    function.restype = None
    function.argtypes = [
        np.ctypeslib.ndpointer(a.dtype, flags="C") if isinstance(a, np.ndarray) else type(a)
        for a in arguments
    ]
    function(*arguments)


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(build_with([SOURCE], LIBRARY)))
