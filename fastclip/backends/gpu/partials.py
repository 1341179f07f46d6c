"""Sums or maxima over all negatives, in partial results for panels of columns and strips of rows.

A launch works on a panel of columns, so that the panel's operand stays in the L2 cache and the size
of row_partial is bounded; the number of strips bounds col_partial. One program works on a tile of
columns and a strip: row tiles below each other, whose sums over rows stay in registers.

    row_partial_ti   for row i, over the columns of tile t of the panel; panels are merged here
    col_partial_pj   for column j, over the rows of partial p: the rows of a strip, or one of the
                     `strip_partials` parts of a strip
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
PARTIAL_BYTES = 64 << 20  # most bytes of a panel's row partials, and of all column partials
MOST_STRIPS = 64
PROGRAMS = 1024  # enough for a few per multiprocessor
# Two waves of an H200's clusters, or one of its multiprocessors. To reach so many programs, column
# partials may take more than PARTIAL_BYTES.
FEWEST_PROGRAMS = 128


@dataclass(frozen=True)
class Partials:
    """Sums (or maxima) still to be reduced over the first dimension."""

    rows: Tensor  # (num_row_partials, M)
    cols: Tensor  # (num_col_partials, N)


@dataclass(frozen=True)
class Reduction:
    """The arguments with which a set of kernels reduces the negatives of a matrix to `Partials`."""

    rows: Operand
    cols: Operand
    scalars: Tensor
    matrix: LogitMatrix
    maximum: bool  # the largest logits, in log2 units; otherwise sums of 2^(logit - shift)
    kept: Tensor  # (kept_rows, columns) int16 or float32, written with sums
    positive: Tensor  # (M,), written with maxima where a row has a pair


def negative_sums(
    kernels: ModuleType,
    rows: Operand,
    cols: Operand,
    scalars: Tensor,
    matrix: LogitMatrix,
    kept: Tensor,  # (kept_rows, columns) int16 or float32, written; or with no rows
) -> Partials:
    """Return the sums of 2^(logit - shift)."""
    unused = scalars  # instead of positives
    return kernels.partials(Reduction(rows, cols, scalars, matrix, False, kept, unused))


def negative_maxima(
    kernels: ModuleType,
    rows: Operand,
    cols: Operand,
    scalars: Tensor,
    matrix: LogitMatrix,
    positive: Tensor,  # (M,), written where a row has a pair
) -> Partials:
    """Return the largest logits in log2 units; -inf where there is no negative."""
    nothing = scalars.new_empty((0, 0), dtype=torch.int16)
    return kernels.partials(Reduction(rows, cols, scalars, matrix, True, nothing, positive))


class Cut(NamedTuple):
    """How the tiles of a matrix are divided into launches and programs."""

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
    # Long strips write few partials; many programs keep the device busy.
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
