"""Forward: sums of exponentials of the negatives, of rows and of columns at once.

Math
    e_ij  = 2^(unit acc_ij - shift) for negatives, 0 for pairs and outside of the matrix, and with
            EXCLUDES for what rows leave out (`intervals.py`)
    row_partial_ti = sum of e_ij over the columns j of tile t
    col_partial_pj = sum of e_ij over the rows i of strip p
    MAXIMUM: the same with logits instead of e, largest instead of sum, -inf instead of 0;
             and positive_i = unit acc_{i, i + offset} ln 2 again, for rows that have a pair.
    KEEP:    the logits of the first kept_rows rows are stored too, as multiples of `step`, those
             that are left out included.
Tiling
    A program has one tile of columns and a strip of row tiles below each other, so that sums over
    rows stay in its registers. COLUMN_SUMS is how:
        "tile"   reduced for every tile
        "lanes"  for every tile only over the rows that one thread holds (of 128 rows of a wgmma or
                 mma layout, bits 3 and up to 2 of 7): no shuffle in the loop; right for any layout
        "full"   a whole tile of sums; reduced once per strip
    Columns go in panels (`fastclip/backends/gpu/partials.py`).
Cost
    2 M N D FLOPs (three times that for float32-grade products), one exponential per logit; writes
    4 M N (1 / BLOCK_N + 1 / (BLOCK_M * strip)) bytes, and 2 or 4 per kept logit.
Numerics
    One shift for all logits, from a bound that needs no data (`fastclip/backends/gpu/scalars.py`):
    one exponential serves both directions and partial sums are plain sums. Rows that it fails are
    redone in `finalise.py`. No atomics: the same bits at every run. Beside maxima, positives come
    from the same accumulator: where features are equal their logits are, and a tie is seen to be
    one.
Limits
    None.
Source
    Sums of both directions from one tile are also in memeff (b0nce/MemoryEfficientCLIP).
"""

import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu.partials import Partials, Reduction, over_panels
from fastclip.backends.triton.intervals import INTERVALS, interval_arguments, leave_out, meets
from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.matrix import matrix_argument
from fastclip.backends.triton.scalars import LN_2, SHIFT, STEP, UNIT
from fastclip.backends.triton.similarity import similarity_tile
from fastclip.backends.triton.tiles import tiles_for

# Added to a small float32, it leaves the nearest integer in the low bits of the sum.
ROUNDING = tl.constexpr(12582912.0)  # 1.5 * 2^23


def partials(of: Reduction) -> Partials:
    rows, cols, kept = of.rows, of.cols, of.kept
    tiles = tiles_for(of.scalars.device)
    tile = tiles.keeping if len(kept) or of.maximum else tiles.negative_sums

    def one_panel(
        first_col_tile: int,
        num_tiles: int,
        strip_tiles: int,
        row_partial: Tensor,  # (at least num_tiles, M)
        col_partial: Tensor,  # (strips, N)
    ) -> None:
        launch(
            negative_sums_kernel,
            (num_tiles, len(col_partial)),
            matrix_argument(rows.values, tile.block_m, tile.block_k, tiles.descriptors),
            matrix_argument(cols.values, tile.block_n, tile.block_k, tiles.descriptors),
            of.scalars, row_partial, col_partial, of.positive, kept,
            *of.matrix.numbers, *interval_arguments(of.matrix, of.scalars),
            first_col_tile, strip_tiles,
            rows.plane_rows, cols.plane_rows, rows.padded_dim // tile.block_k,
            len(kept), kept.shape[1],
            BLOCK_M=tile.block_m, BLOCK_N=tile.block_n, BLOCK_K=tile.block_k,
            SEGMENTS=rows.segments, DESCRIPTORS=tiles.descriptors,
            COLUMN_SUMS=tiles.column_sums, MAXIMUM=of.maximum, KEEP=len(kept) > 0,
            EXCLUDES=of.matrix.excluded is not None,
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip

    return over_panels(
        one_panel, of.matrix.M, of.matrix.N, tile.block_m, tile.block_n,
        strip_partials=1, maximum=of.maximum, like=of.scalars,
    )  # fmt: skip


@triton.jit(
    do_not_specialize=[
        "M", "N", "positive_offset", "first_col_tile", "strip_tiles", "k_tiles", "kept_rows",
    ],
    do_not_specialize_on_alignment=INTERVALS,
)  # fmt: skip
def negative_sums_kernel(
    rows,  # (PLANES * row_plane, D)
    cols,  # (PLANES * col_plane, D)
    scalars,
    row_partial,  # (column tiles of the panel, M)
    col_partial,  # (strips, N)
    positive,  # (M,)
    kept,  # (kept_rows, kept_stride)
    M,
    N,
    positive_offset,
    begins,  # (M,)
    ends,  # (M,)
    first_col_tile,  # of the panel
    strip_tiles,
    row_plane,
    col_plane,
    k_tiles,
    kept_rows,
    kept_stride,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SEGMENTS: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    COLUMN_SUMS: tl.constexpr,
    MAXIMUM: tl.constexpr,
    KEEP: tl.constexpr,
    EXCLUDES: tl.constexpr,
):
    tl.static_assert(BLOCK_M % 128 == 0)
    HALVES: tl.constexpr = BLOCK_M // 128
    NEUTRAL: tl.constexpr = float("-inf") if MAXIMUM else 0.0
    unit = tl.load(scalars + UNIT)
    shift = tl.load(scalars + SHIFT)
    if KEEP:
        levels = unit / tl.load(scalars + STEP)

    first_col = (first_col_tile + tl.program_id(0)) * BLOCK_N
    col = first_col + tl.arange(0, BLOCK_N)
    if COLUMN_SUMS == "lanes":
        over_rows = tl.full((8, 8, BLOCK_N), NEUTRAL, tl.float32)
    elif COLUMN_SUMS == "full":
        over_rows = tl.full((BLOCK_M, BLOCK_N), NEUTRAL, tl.float32)
    else:
        over_rows = tl.full((BLOCK_N,), NEUTRAL, tl.float32)

    first_tile = tl.program_id(1) * strip_tiles
    last_tile = tl.minimum(first_tile + strip_tiles, tl.cdiv(M, BLOCK_M))
    # Flattened with the loop over k: the next tile's loads run while this one is reduced.
    for tile in tl.range(first_tile, last_tile, flatten=True):
        first_row = tile * BLOCK_M
        acc = similarity_tile(
            rows, cols, first_row, first_col, row_plane, col_plane, k_tiles,
            BLOCK_M, BLOCK_N, BLOCK_K, SEGMENTS, DESCRIPTORS,
        )  # fmt: skip
        row = first_row + tl.arange(0, BLOCK_M)
        if KEEP:
            if first_row < kept_rows:
                keep_logits(kept, acc, row, col, unit, levels, N, kept_rows, kept_stride)
        if MAXIMUM:
            value = acc * unit
        else:
            value = tl.math.exp2(tl.fma(acc, unit, -shift))
        pairs = first_row + positive_offset - first_col
        if (
            (first_row + BLOCK_M > M)
            | (first_col + BLOCK_N > N)
            | ((pairs < BLOCK_N) & (pairs + BLOCK_M > 0))
        ):
            pair = (row + positive_offset)[:, None] == col[None, :]
            inside = (row < M)[:, None] & (col < N)[None, :]
            value = tl.where(inside & (pair == 0), value, NEUTRAL)
            if MAXIMUM:
                own = row + positive_offset
                here = (own >= first_col) & (own < tl.minimum(first_col + BLOCK_N, N)) & (row < M)
                logit = tl.sum(tl.where(pair, acc, 0.0), 1) * unit
                tl.store(positive + row, logit * LN_2, mask=here)
        if EXCLUDES:
            if meets(begins, ends, row, M, first_col, BLOCK_N):
                value = leave_out(value, NEUTRAL, begins, ends, row, col, M, positive_offset)

        if MAXIMUM:
            over_cols = tl.max(value, 1)
        else:
            over_cols = tl.sum(value, 1)
        offset = tl.program_id(0).to(tl.int64) * M
        tl.store(row_partial + offset + row, over_cols, mask=row < M)
        if COLUMN_SUMS == "lanes":
            value = tl.reshape(value, (HALVES, 8, 2, 8, BLOCK_N))
            if MAXIMUM:
                over_rows = tl.maximum(over_rows, tl.max(tl.max(value, 2), 0))
            else:
                over_rows += tl.sum(tl.sum(value, 2), 0)
        elif COLUMN_SUMS == "full":
            over_rows = tl.maximum(over_rows, value) if MAXIMUM else over_rows + value
        else:
            over_rows = (
                tl.maximum(over_rows, tl.max(value, 0)) if MAXIMUM else over_rows + tl.sum(value, 0)
            )

    if COLUMN_SUMS == "lanes":
        over_rows = reduced(reduced(over_rows, MAXIMUM), MAXIMUM)
    elif COLUMN_SUMS == "full":
        over_rows = reduced(over_rows, MAXIMUM)
    offset = tl.program_id(1).to(tl.int64) * N
    tl.store(col_partial + offset + col, over_rows, mask=col < N)


@triton.jit
def reduced(x, MAXIMUM: tl.constexpr):
    """Over the first dimension."""
    if MAXIMUM:
        return tl.max(x, 0)
    else:
        return tl.sum(x, 0)


@triton.jit
def keep_logits(kept, acc, row, col, unit, levels, N, kept_rows, kept_stride):
    offsets = row.to(tl.int64)[:, None] * kept_stride + col[None, :]
    mask = (row < kept_rows)[:, None] & (col < N)[None, :]
    if kept.dtype.element_ty == tl.int16:
        rounded = tl.fma(acc, levels, ROUNDING)
        tl.store(kept + offsets, rounded.to(tl.int32, bitcast=True).to(tl.int16), mask=mask)
    else:
        tl.store(kept + offsets, acc * unit, mask=mask)
