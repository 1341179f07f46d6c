"""A tile of similarities: the matrix product that every kernel of this backend starts from.

Math
    acc_ij = <row_i, col_j> of the operands, in 1 or 3 SEGMENTS (`fastclip/backends/gpu/operand.py`)
Tiling
    BLOCK_M x BLOCK_N in registers, BLOCK_K at a time through shared memory.
Numerics
    float16 factors, float32 accumulation.
Limits
    Operands are padded to whole tiles with zeros: no load is masked.
"""

import triton
import triton.language as tl


@triton.jit
def similarity_tile(
    rows,  # operand of the rows: a descriptor, or a pointer to (planes * row_plane, D)
    cols,  # operand of the columns alike
    first_row,  # of this tile
    first_col,
    row_plane,  # rows of a plane
    col_plane,
    k_tiles,  # padded D / BLOCK_K
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SEGMENTS: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(0, k_tiles * SEGMENTS):
        row, col, k = first_row, first_col, step
        if SEGMENTS == 3:
            segment = step // k_tiles
            k = step - segment * k_tiles
            row = first_row + tl.where(segment == 0, row_plane, 0)
            col = first_col + tl.where(segment == 1, col_plane, 0)
        a = load_tile(rows, row, k, k_tiles, BLOCK_M, BLOCK_K, DESCRIPTORS)
        b = load_tile(cols, col, k, k_tiles, BLOCK_N, BLOCK_K, DESCRIPTORS)
        acc = tl.dot(a, b.T, acc)
    return acc


@triton.jit
def load_tile(
    operand,
    first_row,
    k,
    k_tiles,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):
    if DESCRIPTORS:
        return operand.load([first_row, k * BLOCK_K])
    else:
        # A row is k_tiles * BLOCK_K long; written so, the compiler knows that it is aligned.
        row = (first_row + tl.arange(0, BLOCK_ROWS)).to(tl.int64)
        offsets = (
            row[:, None] * (k_tiles * BLOCK_K) + (k * BLOCK_K + tl.arange(0, BLOCK_K))[None, :]
        )
        return tl.load(operand + offsets)


@triton.jit
def grouped_tile(index, num_m, num_n, GROUP: tl.constexpr):
    """Tile `index` in an order whose neighbours share operands in the L2 cache."""
    width = GROUP * num_n
    first = (index // width) * GROUP
    group = min(num_m - first, GROUP)
    return first + (index % width) % group, (index % width) // group
