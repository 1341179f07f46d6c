"""Backward: a block of G, the gradient of the loss w.r.t. the logits, as float16.

Math
    G_ij = g_i 2^(logit_ij - shift_i) + g'_j 2^(logit_ij - shift'_j)   for negatives
    G_ij = h_i                                                       for pairs
    G_ij = 0                              for what rows leave out, with EXCLUDES (`intervals.py`)
    with g, g', h the gradients w.r.t. totals and positives; logits recomputed, or kept by the
    forward. What is stored is `weight` G (`fastclip/backends/gpu/scalars.py`), in one plane or two:
        high = fp16(weight G);  low = fp16(2^11 (weight G - high))
Tiling
    BLOCK_M x BLOCK_N per program, in an order that shares operands in L2.
Cost
    2 M N D FLOPs (three times that for float32-grade products) or 2 to 4 bytes read per logit; two
    exponentials per logit; 2 bytes written per logit and plane.
Numerics
    Two exponentials: each is at most about 1 whatever the data, where one with factors
    2^(shift - shift_i) could overflow. A pair is written from its vector, never as p - 1.
    float16 keeps 11 bits of G down to 2^-28 of the largest, and loses it below 2^-38.
"""

import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu import products
from fastclip.backends.gpu.logit_matrix import GradientVectors, Region
from fastclip.backends.gpu.operand import Operand
from fastclip.backends.triton.intervals import INTERVALS, interval_arguments, leave_out, meets
from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.matrix import matrix_argument
from fastclip.backends.triton.scalars import LOG2_E, STEP, UNIT, WEIGHT
from fastclip.backends.triton.similarity import grouped_tile, similarity_tile
from fastclip.backends.triton.tiles import tiles_for

LOW_SCALE = tl.constexpr(products.LOW_SCALE)
GROUP = 8


def recomputed(
    region: Region,
    rows: Operand,  # of the region's rows only
    cols: Operand,
    scalars: Tensor,
    block: Tensor,  # (planes, num_rows, num_cols) float16, written
    vectors: GradientVectors,
) -> None:
    tiles = tiles_for(block.device)
    tile = tiles.gradient
    num_m, num_n = region.num_rows // tile.block_m, region.num_cols // tile.block_n
    launch(
        recomputed_kernel,
        (num_m * num_n,),
        matrix_argument(rows.values, tile.block_m, tile.block_k, tiles.descriptors),
        matrix_argument(cols.values, tile.block_n, tile.block_k, tiles.descriptors),
        matrix_argument(block, tile.block_m, tile.block_n, tiles.descriptors),
        scalars, *vectors,
        region.num_rows, region.num_cols, region.first_row, region.first_col,
        *region.matrix.numbers, *interval_arguments(region.matrix, scalars),
        rows.plane_rows, cols.plane_rows, rows.padded_dim // tile.block_k,
        BLOCK_M=tile.block_m, BLOCK_N=tile.block_n, BLOCK_K=tile.block_k, GROUP=GROUP,
        SEGMENTS=rows.segments, DESCRIPTORS=tiles.descriptors,
        EXCLUDES=region.matrix.excluded is not None,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip


def from_kept(
    region: Region,
    kept: Tensor,  # (kept_rows, columns) int16 or float32
    scalars: Tensor,
    block: Tensor,  # (planes, num_rows, num_cols) float16, written
    vectors: GradientVectors,
) -> None:
    block_m, block_n = 16, 256
    launch(
        kept_kernel,
        (region.num_cols // block_n, region.num_rows // block_m),
        kept, block, scalars, *vectors,
        region.num_rows, region.num_cols, region.first_row, region.first_col,
        *region.matrix.numbers, *interval_arguments(region.matrix, scalars),
        len(kept), kept.shape[1],
        BLOCK_M=block_m, BLOCK_N=block_n, PLANES=len(block),
        EXCLUDES=region.matrix.excluded is not None, num_warps=4,
    )  # fmt: skip


BLOCK_ARGUMENTS = ["num_rows", "num_cols", "first_row", "first_col", "M", "N", "positive_offset"]


@triton.jit(
    do_not_specialize=[*BLOCK_ARGUMENTS, "k_tiles"], do_not_specialize_on_alignment=INTERVALS
)
def recomputed_kernel(
    rows,  # (PLANES * row_plane, D)
    cols,  # (PLANES * col_plane, D)
    block,  # (PLANES * num_rows, num_cols)
    scalars,
    shift,  # (M + N,)
    grad_total,  # (M + N,)
    grad_positive,  # (M,)
    num_rows,
    num_cols,
    first_row,
    first_col,
    M,
    N,
    positive_offset,
    begins,  # (M,)
    ends,  # (M,)
    row_plane,
    col_plane,
    k_tiles,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    SEGMENTS: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    EXCLUDES: tl.constexpr,
):
    num_m, num_n = num_rows // BLOCK_M, num_cols // BLOCK_N
    tile_m, tile_n = grouped_tile(tl.program_id(0), num_m, num_n, GROUP)
    block_row, block_col = tile_m * BLOCK_M, tile_n * BLOCK_N
    acc = similarity_tile(
        rows, cols, block_row, first_col + block_col, row_plane, col_plane, k_tiles,
        BLOCK_M, BLOCK_N, BLOCK_K, SEGMENTS, DESCRIPTORS,
    )  # fmt: skip
    G = weighted_gradient(
        acc, tl.load(scalars + UNIT), tl.load(scalars + WEIGHT), shift, grad_total, grad_positive,
        first_row + block_row, first_col + block_col, M, N, positive_offset, begins, ends,
        BLOCK_M, BLOCK_N, EXCLUDES,
    )  # fmt: skip
    store_block(
        block, G, block_row, block_col, num_rows, num_cols,
        BLOCK_M, BLOCK_N, 1 if SEGMENTS == 1 else 2, DESCRIPTORS,
    )  # fmt: skip


@triton.jit(
    do_not_specialize=[*BLOCK_ARGUMENTS, "kept_rows"], do_not_specialize_on_alignment=INTERVALS
)
def kept_kernel(
    kept,  # (kept_rows, kept_stride)
    block,  # (PLANES * num_rows, num_cols)
    scalars,
    shift,  # (M + N,)
    grad_total,  # (M + N,)
    grad_positive,  # (M,)
    num_rows,
    num_cols,
    first_row,
    first_col,
    M,
    N,
    positive_offset,
    begins,  # (M,)
    ends,  # (M,)
    kept_rows,
    kept_stride,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PLANES: tl.constexpr,
    EXCLUDES: tl.constexpr,
):
    block_row, block_col = tl.program_id(1) * BLOCK_M, tl.program_id(0) * BLOCK_N
    row = first_row + block_row + tl.arange(0, BLOCK_M)
    col = first_col + block_col + tl.arange(0, BLOCK_N)
    offsets = row.to(tl.int64)[:, None] * kept_stride + col[None, :]
    inside = (row < kept_rows)[:, None] & (col < N)[None, :]
    logit = tl.load(kept + offsets, mask=inside, other=0.0).to(tl.float32)
    unit = 1.0
    if kept.dtype.element_ty == tl.int16:
        unit = tl.load(scalars + STEP)
    G = weighted_gradient(
        logit, unit, tl.load(scalars + WEIGHT), shift, grad_total, grad_positive,
        first_row + block_row, first_col + block_col, M, N, positive_offset, begins, ends,
        BLOCK_M, BLOCK_N, EXCLUDES,
    )  # fmt: skip
    # Rows that pad the block are of the matrix: with their shift, a logit of 0 may overflow.
    G = tl.where((row < kept_rows)[:, None], G, 0.0)
    store_block(block, G, block_row, block_col, num_rows, num_cols, BLOCK_M, BLOCK_N, PLANES, False)


@triton.jit
def weighted_gradient(
    acc, unit, weight, shift, grad_total, grad_positive, first_row, first_col, M, N,
    positive_offset, begins, ends,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    EXCLUDES: tl.constexpr,
):  # fmt: skip
    row = first_row + tl.arange(0, BLOCK_M)
    col = first_col + tl.arange(0, BLOCK_N)
    row_shift = log2_shift(shift + row, row < M)
    col_shift = log2_shift(shift + M + col, col < N)
    row_weight = tl.load(grad_total + row, mask=row < M, other=0.0) * weight
    col_weight = tl.load(grad_total + M + col, mask=col < N, other=0.0) * weight
    of_rows = tl.math.exp2(tl.fma(acc, unit, -row_shift[:, None])) * row_weight[:, None]
    of_cols = tl.math.exp2(tl.fma(acc, unit, -col_shift[None, :]))
    G = tl.fma(of_cols, col_weight[None, :], of_rows)
    pairs = first_row + positive_offset - first_col
    if (
        (first_row + BLOCK_M > M)
        | (first_col + BLOCK_N > N)
        | ((pairs < BLOCK_N) & (pairs + BLOCK_M > 0))
    ):
        pair = tl.load(grad_positive + row, mask=row < M, other=0.0) * weight
        G = tl.where((row + positive_offset)[:, None] == col[None, :], pair[:, None], G)
        # Beyond the matrix the operands are zero, but zero times an overflow is not.
        G = tl.where((row < M)[:, None] & (col < N)[None, :], G, 0.0)
    if EXCLUDES:
        if meets(begins, ends, row, M, first_col, BLOCK_N):
            G = leave_out(G, 0.0, begins, ends, row, col, M, positive_offset)
    return G


@triton.jit
def log2_shift(pointers, mask):
    """0 for a shift of -inf, of a row without negatives: its weight is not used."""
    shift = tl.load(pointers, mask=mask, other=0.0)
    return tl.where(shift == float("-inf"), 0.0, shift) * LOG2_E


@triton.jit
def store_block(
    block, G, block_row, block_col, num_rows, num_cols,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PLANES: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    """G as one float16 or two; `block` is (PLANES * num_rows, num_cols), in whole tiles."""
    high = G.to(tl.float16)
    store_tile(block, high, block_row, block_col, num_cols, BLOCK_M, BLOCK_N, DESCRIPTORS)
    if PLANES == 2:
        low = ((G - high.to(tl.float32)) * LOW_SCALE).to(tl.float16)
        row = num_rows + block_row
        store_tile(block, low, row, block_col, num_cols, BLOCK_M, BLOCK_N, DESCRIPTORS)


@triton.jit
def store_tile(
    matrix, tile, first_row, first_col, stride,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    if DESCRIPTORS:
        matrix.store([first_row, first_col], tile)
    else:
        row = (first_row + tl.arange(0, BLOCK_M)).to(tl.int64)
        # In whole tiles of BLOCK_N; written so, the compiler knows that rows are aligned.
        offsets = row[:, None] * (stride // BLOCK_N * BLOCK_N)
        tl.store(matrix + offsets + (first_col + tl.arange(0, BLOCK_N))[None, :], tile)
