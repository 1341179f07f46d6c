"""The logits of the pairs.

Math
    positive_i = s <row_i, col_{i + offset}>, 0 where row i has no pair; natural units
Tiling
    ROWS rows of a program, BLOCK_D elements at a time.
Cost
    Reads both operands once.
Numerics
    From the operands, not from the features: a negative that equals the positive must have the
    same logit, or the difference of the two carries the rounding of the operands.
"""

import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu.logit_matrix import LogitMatrix
from fastclip.backends.gpu.operand import Operand
from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.operands import ROWS_OF_PROGRAM, WARPS_OF_PROGRAM, block_d
from fastclip.backends.triton.scalars import LN_2, UNIT


def positives(rows: Operand, cols: Operand, scalars: Tensor, matrix: LogitMatrix) -> Tensor:
    """Return the logits of the pairs, (M,) float32."""
    positive = scalars.new_empty((matrix.M,))
    launch(
        positives_kernel,
        (triton.cdiv(matrix.M, ROWS_OF_PROGRAM),),
        rows.values, cols.values, scalars, positive, *matrix.numbers,
        rows.plane_rows, cols.plane_rows, rows.padded_dim,
        ROWS=ROWS_OF_PROGRAM, BLOCK_D=block_d(rows.padded_dim), PLANES=rows.planes,
        num_warps=WARPS_OF_PROGRAM,
    )  # fmt: skip
    return positive


@triton.jit(do_not_specialize=["M", "N", "positive_offset"])
def positives_kernel(
    rows,  # (PLANES, row_plane, padded_D)
    cols,  # (PLANES, col_plane, padded_D)
    scalars,
    positive,  # (M,)
    M,
    N,
    positive_offset,
    row_plane,
    col_plane,
    padded_D,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PLANES: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    col = row + positive_offset
    paired = (row < M) & (col >= 0) & (col < N)
    product = tl.zeros((ROWS,), tl.float32)
    for first in range(0, padded_D, BLOCK_D):
        dim = first + tl.arange(0, BLOCK_D)
        a = load_operand(rows, row, dim, paired, row_plane, padded_D, PLANES)
        b = load_operand(cols, col, dim, paired, col_plane, padded_D, PLANES)
        product += tl.sum(a * b, 1)
    tl.store(positive + row, product * tl.load(scalars + UNIT) * LN_2, mask=row < M)


@triton.jit
def load_operand(operand, row, dim, inside, plane_rows, padded_D, PLANES: tl.constexpr):
    """(rows, dims) in float32, the sum of the planes, zero where not `inside`."""
    offsets = row[:, None] * padded_D + dim[None, :]
    mask = inside[:, None] & (dim < padded_D)[None, :]
    value = tl.load(operand + offsets, mask=mask, other=0.0).to(tl.float32)
    if PLANES == 2:
        plane = plane_rows.to(tl.int64) * padded_D
        value += tl.load(operand + plane + offsets, mask=mask, other=0.0).to(tl.float32)
    return value
