"""From partial sums to shift and total, and the rescue of rows that the common shift fails.

Math, for the rows of either side, in log2 units:
    sum_i      = sum over partials
    rescued    where sum_i < 2^-80:  max_i = max_j logit_ij,  sum_i = sum_j 2^(logit_ij - max_i)
               over negatives, by recomputing the row; max_i takes the place of the shift.
               EXCLUDES: without what rows leave out, or columns OF_COLUMNS (`intervals.py`)
    shift_i    = (shift + e_i) ln 2,  total_i = sum_i 2^-e_i in [1, 2),  e_i an integer
               -inf and 1 where there are no negatives
    with maxima, shift_i is the largest negative and total_i follows: >= 1
Tiling
    BLOCK_M rows of a program. Unless one of them needs the rescue, which is a scan over all columns
    with an online maximum, it returns after a few loads: launched always, so that nothing has to be
    asked from the host.
Cost
    4 bytes read per partial, 8 written per row. A rescued block: 2 BLOCK_M N D FLOPs; one is where
    a row leaves out every column, too.
Numerics
    Exact for any data. A term lost to underflow is below 2^-126: beside a sum of 2^-80, N of them
    are N 2^-46 of it. At logit_scale 100 and N = 32,768 a row is rescued if its cosines are all
    below about -0.2; below logit_scale 40, never.
    total_i refers to the float32 number that the backward computes from shift_i, so that rounding
    shift_i to float32 costs nothing there.
"""

import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu.logit_matrix import LogitMatrix
from fastclip.backends.gpu.operand import Operand
from fastclip.backends.gpu.scalars import TRUSTED_SUM
from fastclip.backends.triton.intervals import (
    INTERVALS,
    interval_arguments,
    is_left_out,
    is_left_out_by_columns,
)
from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.matrix import matrix_argument
from fastclip.backends.triton.scalars import LN_2, LOG2_E, SHIFT, UNIT
from fastclip.backends.triton.similarity import similarity_tile
from fastclip.backends.triton.tiles import tiles_for

TRUSTED = tl.constexpr(TRUSTED_SUM)
PARTIALS = tl.constexpr(16)  # read at a time


def finalise(
    rows: Operand,
    cols: Operand,
    scalars: Tensor,
    matrix: LogitMatrix,
    partials: Tensor,  # (num_partials, M)
    maximum: Tensor | None,  # (M,) in log2 units, or None if any shift will do
    shift: Tensor,  # (M,) written
    total: Tensor,  # (M,) written
) -> None:
    """Finalise rows; or columns, with both operands swapped and the matrix transposed."""
    tiles = tiles_for(scalars.device)
    tile = tiles.finalise if matrix.excluded is None else tiles.finalise_leaving_out
    launch(
        finalise_kernel,
        (triton.cdiv(matrix.M, tile.block_m),),
        matrix_argument(rows.values, tile.block_m, tile.block_k, tiles.descriptors),
        matrix_argument(cols.values, tile.block_n, tile.block_k, tiles.descriptors),
        scalars, partials, partials if maximum is None else maximum, shift, total,
        len(partials), *matrix.numbers, *interval_arguments(matrix, scalars),
        rows.plane_rows, cols.plane_rows, rows.padded_dim // tile.block_k,
        BLOCK_M=tile.block_m, BLOCK_N=tile.block_n, BLOCK_K=tile.block_k,
        SEGMENTS=rows.segments, DESCRIPTORS=tiles.descriptors,
        MAXIMUM=maximum is not None, EXCLUDES=matrix.excluded is not None,
        OF_COLUMNS=matrix.excluded is not None and matrix.is_transposed,
        # natural * LOG2_E must be rounded, as in the backward, before it is subtracted.
        enable_fp_fusion=False,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip


# The columns' part of a vector begins anywhere: its alignment would compile a second variant.
@triton.jit(
    do_not_specialize=["num_partials", "M", "N", "positive_offset", "k_tiles"],
    do_not_specialize_on_alignment=["shifts", "totals", *INTERVALS],
)
def finalise_kernel(
    rows,  # (PLANES * row_plane, D)
    cols,  # (PLANES * col_plane, D)
    scalars,
    partials,  # (num_partials, M)
    maximum,  # (M,)
    shifts,  # (M,)
    totals,  # (M,)
    num_partials,
    M,
    N,
    positive_offset,
    begins,  # (M,); OF_COLUMNS (N,)
    ends,  # likewise
    row_plane,
    col_plane,
    k_tiles,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SEGMENTS: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    MAXIMUM: tl.constexpr,
    EXCLUDES: tl.constexpr,
    OF_COLUMNS: tl.constexpr,  # intervals are those of this kernel's columns
):
    first_row = tl.program_id(0) * BLOCK_M
    row = first_row + tl.arange(0, BLOCK_M)
    inside = row < M

    total = tl.zeros((BLOCK_M,), tl.float32)
    for first in range(0, num_partials, PARTIALS):
        partial = first + tl.arange(0, PARTIALS)
        offsets = partial.to(tl.int64)[:, None] * M + row[None, :]
        mask = (partial < num_partials)[:, None] & inside[None, :]
        total += tl.sum(tl.load(partials + offsets, mask=mask, other=0.0), 0)
    shift = tl.zeros((BLOCK_M,), tl.float32) + tl.load(scalars + SHIFT)

    failed = (total < TRUSTED) & inside
    if tl.max(failed.to(tl.int32), 0) != 0:
        largest, rescued = online_sums(
            rows, cols, tl.load(scalars + UNIT), first_row, row, M, N, positive_offset,
            begins, ends, row_plane, col_plane, k_tiles,
            BLOCK_M, BLOCK_N, BLOCK_K, SEGMENTS, DESCRIPTORS, EXCLUDES, OF_COLUMNS,
        )  # fmt: skip
        total = tl.where(failed, rescued, total)
        shift = tl.where(failed, largest, shift)

    alone = total == 0.0
    exponent = ((total.to(tl.int32, bitcast=True) >> 23) & 255) - 127
    target = shift + exponent.to(tl.float32)
    if MAXIMUM:
        target = tl.load(maximum + row, mask=inside, other=0.0)
    natural = tl.where(alone, 0.0, target) * LN_2
    # natural * LOG2_E is what the backward makes of it: `total` is relative to that.
    total *= tl.math.exp2(tl.where(alone, 0.0, shift) - natural * LOG2_E)
    tl.store(shifts + row, tl.where(alone, float("-inf"), natural), mask=inside)
    tl.store(totals + row, tl.where(alone, 1.0, total), mask=inside)


@triton.jit
def online_sums(
    rows, cols, unit, first_row, row, M, N, positive_offset, begins, ends,
    row_plane, col_plane, k_tiles,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SEGMENTS: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    EXCLUDES: tl.constexpr,
    OF_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Largest negative logit of every row and the sum relative to it: -inf and 0 if it has none."""
    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    for first_col in range(0, N, BLOCK_N):
        acc = similarity_tile(
            rows, cols, first_row, first_col, row_plane, col_plane, k_tiles,
            BLOCK_M, BLOCK_N, BLOCK_K, SEGMENTS, DESCRIPTORS,
        )  # fmt: skip
        col = first_col + tl.arange(0, BLOCK_N)
        negative = ((row + positive_offset)[:, None] != col[None, :]) & (col < N)[None, :]
        logit = acc * unit
        # Rows after the pairs, columns before them: otherwise registers spill.
        if OF_COLUMNS:
            out = is_left_out_by_columns(begins, ends, row, col, N)
            logit = tl.where(out, float("-inf"), logit)
        logit = tl.where(negative, logit, float("-inf"))
        if EXCLUDES and not OF_COLUMNS:
            out = is_left_out(begins, ends, row, col, M)
            logit = tl.where(out, float("-inf"), logit)
        merged = tl.maximum(largest, tl.max(logit, 1))
        finite = tl.where(merged == float("-inf"), 0.0, merged)
        total *= tl.math.exp2(largest - finite)
        total += tl.sum(tl.math.exp2(logit - finite[:, None]), 1)
        largest = merged
    return largest, total
