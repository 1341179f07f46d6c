"""The blocks of logits that exist at a time: chunks of rows, each in panels of columns.

On a CPU a chunk has all columns. On a GPU the product G col has rows / 128 x D / 256 tiles and
G^T row has columns / 128 x D / 256. A block has so many rows, and columns, that each product has
one tile for every multiprocessor (4,224 to 8,448 rows on 132 multiprocessors), or it is square
where this does not fit into the workspace.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fastclip.backends.chunked.machine import Machine
from fastclip.backends.normalization import compute_dtype
from fastclip.rectangle import Rectangle

MIN_ROWS = 16  # of a chunk of all columns, however small the workspace
BUFFERS = 3  # float32 or float64 buffers of a block at a time; a 16-bit buffer counts half
TILE_ROWS, TILE_COLS = 128, 256  # the tile of a matrix product


@dataclass(frozen=True)
class Blocks:
    M: int
    N: int
    rows: int  # of a chunk, at most
    cols: int  # of a panel, at most

    def chunks(self) -> Iterator[slice]:
        return _slices(self.M, self.rows)

    def panels(self) -> Iterator[slice]:
        return _slices(self.N, self.cols)


def blocks_of(rectangle: Rectangle, workspace: int | None, machine: Machine) -> Blocks:
    """Return blocks of at most `workspace` bytes, but at least one tile or MIN_ROWS rows."""
    (M, D), N = rectangle.rows.shape, len(rectangle.cols)
    num_bytes = machine.workspace if workspace is None else workspace
    elements = num_bytes // (BUFFERS * compute_dtype(rectangle.rows.dtype).itemsize)
    if machine.multiprocessors == 0:
        return Blocks(M, N, min(M, max(MIN_ROWS, elements // N)), N)
    wave = TILE_ROWS * max(1, machine.multiprocessors // math.ceil(D / TILE_COLS))
    rows = _even(M, min(wave, max(TILE_ROWS, math.isqrt(elements))))
    cols = max(TILE_ROWS, elements // rows)
    # More columns than one wave help only in whole waves.
    return Blocks(M, N, rows, _even(N, cols // wave * wave or cols))


def _even(size: int, most: int) -> int:
    """Return the size, in whole tiles, of the fewest and most even parts of at most `most`."""
    most = most // TILE_ROWS * TILE_ROWS
    part = math.ceil(size / math.ceil(size / most))
    return min(size, math.ceil(part / TILE_ROWS) * TILE_ROWS)


def _slices(size: int, part: int) -> Iterator[slice]:
    return (slice(start, min(start + part, size)) for start in range(0, size, part))
