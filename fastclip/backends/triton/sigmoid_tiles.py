"""Tiles of the sigmoid primitive: row losses, a block of G, or both in one pass.

Math, in log2 units, with y_ij = logit_ij + bias for negatives and its negative for pairs; with
EXCLUDES -inf for what rows leave out (`intervals.py`), of which nothing is left in either sum:
    q          = 2^-|y|,  in (0, 1]
    softplus   = (max(y, 0) + log2(1 + q)) ln 2
    sigmoid    = 1 / (1 + q) for y >= 0,  q / (1 + q) below
    LOSS:      row_partial_ti = sum of softplus over the columns of tile t
    GRADIENT:  G_ij = g_i sigmoid(y_ij), negated for pairs; stored as in `logit_gradients.py`, and
               summed like the losses, for d logit_bias
Tiling
    BLOCK_M x BLOCK_N per program, in an order that shares operands in L2.
Cost
    2 M N D FLOPs (three times that for float32-grade products), one exponential, one reciprocal and
    a polynomial per logit.
Numerics
    log2(1 + q) = q p(q) with p of degree 8: relative error 1.3e-7 down to the smallest q, so that
    the loss of a model that fits keeps its digits. The library's log2 costs twelve instructions
    and its registers spill.
    With G in one pass nothing is known of its largest entry but |G| <= 1: entries below 2^-28 lose
    digits, below 2^-38 they are lost.
Source
    Zhai et al. 2023, arXiv:2303.15343, Algorithm 1. Coefficients: Chebyshev fit on [0, 1].
"""

import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu.logit_matrix import Region
from fastclip.backends.gpu.operand import Operand
from fastclip.backends.triton.intervals import INTERVALS, interval_arguments, is_left_out, meets
from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.logit_gradients import BLOCK_ARGUMENTS, GROUP, store_block
from fastclip.backends.triton.matrix import matrix_argument
from fastclip.backends.triton.scalars import BIAS, LN_2, UNIT, WEIGHT
from fastclip.backends.triton.similarity import grouped_tile, similarity_tile
from fastclip.backends.triton.tiles import tiles_for


def sigmoid_tiles(
    region: Region,
    rows: Operand,  # of the region's rows only
    cols: Operand,
    scalars: Tensor,
    block: Tensor | None,  # (planes, num_rows, num_cols) float16, written
    grad_row_loss: Tensor | None,  # (M,), g; None for ones
    with_loss: bool,
) -> tuple[Tensor, Tensor]:
    """Return sums of losses and of G over each tile's columns, (column tiles, num_rows) both."""
    tiles = tiles_for(scalars.device)
    tile = tiles.siglip
    num_m, num_n = region.num_rows // tile.block_m, region.num_cols // tile.block_n
    row_partial = scalars.new_empty((num_n if with_loss else 0, region.num_rows))
    bias_partial = scalars.new_empty((0 if block is None else num_n, region.num_rows))
    launch(
        sigmoid_kernel,
        (num_m * num_n,),
        matrix_argument(rows.values, tile.block_m, tile.block_k, tiles.descriptors),
        matrix_argument(cols.values, tile.block_n, tile.block_k, tiles.descriptors),
        scalars if block is None
        else matrix_argument(block, tile.block_m, tile.block_n, tiles.descriptors),
        scalars, scalars if grad_row_loss is None else grad_row_loss, row_partial, bias_partial,
        region.num_rows, region.num_cols, region.first_row, region.first_col,
        *region.matrix.numbers, *interval_arguments(region.matrix, scalars),
        rows.plane_rows, cols.plane_rows, rows.padded_dim // tile.block_k,
        BLOCK_M=tile.block_m, BLOCK_N=tile.block_n, BLOCK_K=tile.block_k, GROUP=GROUP,
        SEGMENTS=rows.segments, DESCRIPTORS=tiles.descriptors,
        LOSS=with_loss, GRADIENT=block is not None, WEIGHTED=grad_row_loss is not None,
        EXCLUDES=region.matrix.excluded is not None,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    return row_partial, bias_partial


@triton.jit(
    do_not_specialize=[*BLOCK_ARGUMENTS, "k_tiles"], do_not_specialize_on_alignment=INTERVALS
)
def sigmoid_kernel(
    rows,  # (PLANES * row_plane, D)
    cols,  # (PLANES * col_plane, D)
    block,  # (PLANES * num_rows, num_cols)
    scalars,
    grad_row_loss,  # (M,)
    row_partial,  # (column tiles, num_rows)
    bias_partial,  # (column tiles, num_rows)
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
    LOSS: tl.constexpr,
    GRADIENT: tl.constexpr,
    WEIGHTED: tl.constexpr,
    EXCLUDES: tl.constexpr,
):
    num_m, num_n = num_rows // BLOCK_M, num_cols // BLOCK_N
    tile_m, tile_n = grouped_tile(tl.program_id(0), num_m, num_n, GROUP)
    block_row, block_col = tile_m * BLOCK_M, tile_n * BLOCK_N
    row = first_row + block_row + tl.arange(0, BLOCK_M)
    if EXCLUDES:  # before the product, while there are registers for it
        some_left_out = meets(begins, ends, row, M, first_col + block_col, BLOCK_N)
    acc = similarity_tile(
        rows, cols, block_row, first_col + block_col, row_plane, col_plane, k_tiles,
        BLOCK_M, BLOCK_N, BLOCK_K, SEGMENTS, DESCRIPTORS,
    )  # fmt: skip

    col = first_col + block_col + tl.arange(0, BLOCK_N)
    y = tl.fma(acc, tl.load(scalars + UNIT), tl.load(scalars + BIAS))
    pair = (row + positive_offset)[:, None] == col[None, :]
    negative = y
    if EXCLUDES:
        if some_left_out:
            negative = tl.where(is_left_out(begins, ends, row, col, M), float("-inf"), y)
    y = tl.where(pair, -y, negative)
    q = tl.math.exp2(-tl.abs(y))
    inside = (row < M)[:, None] & (col < N)[None, :]
    offsets = tile_n.to(tl.int64) * num_rows + block_row + tl.arange(0, BLOCK_M)
    if GRADIENT:
        one = 1.0 / (1.0 + q)
        G = tl.where(y >= 0.0, one, q * one)
        G = tl.where(inside, tl.where(pair, -G, G), 0.0)
        if WEIGHTED:
            G *= tl.load(grad_row_loss + row, mask=row < M, other=0.0)[:, None]
        tl.store(bias_partial + offsets, tl.sum(G, 1))
        store_block(
            block, G * tl.load(scalars + WEIGHT), block_row, block_col, num_rows, num_cols,
            BLOCK_M, BLOCK_N, 1 if SEGMENTS == 1 else 2, DESCRIPTORS,
        )  # fmt: skip
    if LOSS:
        softplus = tl.where(inside, tl.maximum(y, 0.0) + log2_1p(q), 0.0)
        tl.store(row_partial + offsets, tl.sum(softplus, 1) * LN_2)


@triton.jit
def log2_1p(q):
    """log2(1 + q) for q in [0, 1]."""
    p = tl.fma(q, 0.007579231634736061, -0.04268771782517433)
    p = tl.fma(q, p, 0.11305313557386398)
    p = tl.fma(q, p, -0.1972864866256714)
    p = tl.fma(q, p, 0.2757204473018646)
    p = tl.fma(q, p, -0.3584287464618683)
    p = tl.fma(q, p, 0.480695515871048)
    p = tl.fma(q, p, -0.7213403582572937)
    p = tl.fma(q, p, 1.4426950216293335)
    return q * p
