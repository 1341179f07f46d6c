"""Sums over all negatives, or maxima, in partial results: panels of columns, strips of rows.

A launch has a panel of columns, so that the panel's operand stays in the L2 cache and row_partial
is bounded; the number of strips bounds col_partial. One program has a tile of columns and a strip:
row tiles below each other, whose sums over rows stay in its registers.

    row_partial_ti   of row i, over the columns of tile t of the panel; panels are merged here
    col_partial_pj   of column j, over the rows that partial p stands for: those of a strip, or one
                     of the `strip_partials` shares of them
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.backends.gpu.logit_matrix import LogitMatrix
from fastclip.backends.gpu.operand import Operand

PANEL_COLS = 16384
PARTIAL_BYTES = 64 << 20  # of the row partials of a panel, and of all column partials
MOST_STRIPS = 64
PROGRAMS = 1024  # enough for a few per multiprocessor
# Two waves of an H200's clusters, one of its multiprocessors: column partials may take more for it.
FEWEST_PROGRAMS = 128


@dataclass(frozen=True)
class Partials:
    """Sums (or maxima) still to be reduced over the first dimension."""

    rows: Tensor  # (num_row_partials, M)
    cols: Tensor  # (num_col_partials, N)


@dataclass(frozen=True)
class Reduction:
    """What a set of kernels reduces to `Partials`: the negatives of a matrix."""

    rows: Operand
    cols: Operand
    scalars: Tensor
    matrix: LogitMatrix
    maximum: bool  # the largest logits, in log2 units; otherwise sums of 2^(logit - shift)
    kept: Tensor  # (kept_rows, columns) int16 or float32, written beside sums
    positive: Tensor  # (M,), written beside maxima where a row has a pair


def negative_sums(
    kernels: ModuleType,
    rows: Operand,
    cols: Operand,
    scalars: Tensor,
    matrix: LogitMatrix,
    kept: Tensor,  # (kept_rows, columns) int16 or float32, written; or with no rows
) -> Partials:
    """Sums of 2^(logit - shift)."""
    unused = scalars  # in the place of positives
    return kernels.partials(Reduction(rows, cols, scalars, matrix, False, kept, unused))


def negative_maxima(
    kernels: ModuleType,
    rows: Operand,
    cols: Operand,
    scalars: Tensor,
    matrix: LogitMatrix,
    positive: Tensor,  # (M,), written where a row has a pair
) -> Partials:
    """The largest logits in log2 units; -inf where there is no negative."""
    nothing = scalars.new_empty((0, 0), dtype=torch.int16)
    return kernels.partials(Reduction(rows, cols, scalars, matrix, True, nothing, positive))


class Cut(NamedTuple):
    """How the tiles of a matrix are launched."""

    panel_tiles: int  # columns of a panel
    strip_tiles: int  # rows of a strip
    num_strips: int
    num_panels: int


def cut(
    M: int,
    N: int,
    block_m: int,  # of a row tile
    block_n: int,  # of a column tile
    strip_partials: int,  # column partials that a strip writes
) -> Cut:
    num_m, num_n = -(-M // block_m), -(-N // block_n)
    panel_tiles = min(num_n, PANEL_COLS // block_n, max(1, PARTIAL_BYTES // (4 * M)))
    # Long strips write little, many programs keep the device busy.
    fitting = max(PARTIAL_BYTES // (4 * N * strip_partials), -(-FEWEST_PROGRAMS // panel_tiles))
    num_strips = min(num_m, MOST_STRIPS, -(-PROGRAMS // panel_tiles), fitting)
    strip_tiles = -(-num_m // num_strips)
    return Cut(panel_tiles, strip_tiles, -(-num_m // strip_tiles), -(-num_n // panel_tiles))


# launch(first column tile, column tiles, row tiles of a strip, row_partial, col_partial) of one
# panel writes, float32:
#     row_partial  (at least column tiles, M), its first rows, one of each column tile
#     col_partial  (strips * strip_partials, N), the panel's columns
LaunchPanel = Callable[[int, int, int, Tensor, Tensor], None]


def over_panels(
    launch: LaunchPanel,
    M: int,
    N: int,
    block_m: int,  # of a row tile
    block_n: int,  # of a column tile
    strip_partials: int,  # column partials that a strip writes
    maximum: bool,
    like: Tensor,  # float32, on the device
) -> Partials:
    panel_tiles, strip_tiles, num_strips, num_panels = cut(M, N, block_m, block_n, strip_partials)
    num_n = -(-N // block_n)
    row_partial = like.new_empty((panel_tiles, M))
    col_partial = like.new_empty((num_strips * strip_partials, N))
    row_result = None
    for first in range(0, num_n, panel_tiles):
        num_tiles = min(panel_tiles, num_n - first)
        launch(first, num_tiles, strip_tiles, row_partial, col_partial)
        if num_panels == 1:
            return Partials(row_partial, col_partial)
        of_panel = row_partial[:num_tiles].amax(0) if maximum else row_partial[:num_tiles].sum(0)
        if row_result is None:
            row_result = of_panel
        elif maximum:
            row_result = torch.maximum(row_result, of_panel)
        else:
            row_result += of_panel
    return Partials(row_result[None], col_partial)
