"""The kernel that makes operands. Mathematics: `fastclip/backends/gpu/operand.py`.

Tiling
    ROWS rows of a program, BLOCK_D elements at a time.
Cost
    Reads the features (three times, twice from cache), writes 2 bytes per element and plane.
Numerics
    Norms in float32; rows too large to square are scaled by a power of two first.
Source
    F.normalize for the clamp of the norm.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu import operand as layout
from fastclip.backends.gpu.operand import DIM_MULTIPLE, ROW_MULTIPLE, Extent, Operand, padded
from fastclip.backends.normalization import EPS
from fastclip.backends.triton.launch import launch

UNIT_FACTOR = tl.constexpr(layout.UNIT_FACTOR)
ROWS_OF_PROGRAM = 8
WARPS_OF_PROGRAM = 4


def prepare(features: Tensor, of: Extent | None, planes: int) -> Operand:
    """Make the operand of features (M, D), any strides.

    Args:
        of: the extent of the matrix to which these rows belong; None normalises them.
    """
    M, D = features.shape
    shape = planes, padded(M, ROW_MULTIPLE), padded(D, DIM_MULTIPLE)
    values = features.new_empty(shape, dtype=torch.float16)
    norms = features.new_empty((M if of is None else 0,), dtype=torch.float32)
    launch(
        prepare_kernel,
        (shape[1] // ROWS_OF_PROGRAM,),
        features, values, norms, values if of is None else of.largest,
        M, D, features.stride(0), features.stride(1), shape[1], shape[2],
        ROWS=ROWS_OF_PROGRAM, BLOCK_D=block_d(D), NORMALIZE=of is None, PLANES=planes, EPS=EPS,
        num_warps=WARPS_OF_PROGRAM,
    )  # fmt: skip
    return Operand(values, norms, M)


def block_d(D: int) -> int:
    return min(512, max(32, triton.next_power_of_2(D)))


@triton.jit(do_not_specialize=["M"])
def prepare_kernel(
    features,  # (M, D)
    values,  # (PLANES, plane_rows, padded_D)
    norms,  # (M,)
    largest,  # ()
    M,
    D,
    row_stride,
    col_stride,
    plane_rows,
    padded_D,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NORMALIZE: tl.constexpr,
    PLANES: tl.constexpr,
    EPS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    dim = tl.arange(0, BLOCK_D)

    if NORMALIZE:
        largest_of_row = tl.zeros((ROWS,), tl.float32)
        for first in range(0, D, BLOCK_D):
            x = load_features(features, row, first + dim, M, D, row_stride, col_stride)
            largest_of_row = tl.maximum(largest_of_row, tl.max(tl.abs(x), 1))
        # Squares of elements above 2^63 overflow.
        down = tl.where(largest_of_row > 2.0**40, 2.0**-80, 1.0)
        squares = tl.zeros((ROWS,), tl.float32)
        for first in range(0, D, BLOCK_D):
            x = load_features(features, row, first + dim, M, D, row_stride, col_stride)
            x *= down[:, None]
            squares += tl.sum(x * x, 1)
        norm = tl.sqrt_rn(squares)
        # Only rows with down = 1 are that small. A nan is kept: tl.maximum would drop it.
        norm = tl.where(norm < EPS, EPS, norm)
        factor = tl.div_rn(tl.full((ROWS,), UNIT_FACTOR, tl.float32), norm)
        tl.store(norms + row, norm * (1.0 / down), mask=row < M)
    else:
        down = tl.full((ROWS,), 1.0, tl.float32)
        factor = down * power_of_two_factor(tl.load(largest))

    for first in range(0, padded_D, BLOCK_D):
        x = load_features(features, row, first + dim, M, D, row_stride, col_stride)
        operand = (x * down[:, None]) * factor[:, None]
        high = operand.to(tl.float16)
        offsets = row[:, None] * padded_D + (first + dim)[None, :]
        within = (row[:, None] < plane_rows) & ((first + dim) < padded_D)[None, :]
        tl.store(values + offsets, high, mask=within)
        if PLANES == 2:
            low = (operand - high.to(tl.float32)).to(tl.float16)
            plane = plane_rows.to(tl.int64) * padded_D
            tl.store(values + plane + offsets, low, mask=within)


@triton.jit
def load_features(features, row, dim, M, D, row_stride, col_stride):
    """(rows, dims) in float32, zero outside of the matrix."""
    offsets = row[:, None] * row_stride + dim.to(tl.int64)[None, :] * col_stride
    inside = (row < M)[:, None] & (dim < D)[None, :]
    return tl.load(features + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def power_of_two_factor(largest):
    """The power of two f with f * largest in [2^7, 2^8): its exponent, from the bits of largest."""
    exponent = (largest.to(tl.int32, bitcast=True) >> 23) & 255
    # Clamped, so that f is finite and not zero: nan and inf stay what they are.
    power = tl.minimum(tl.maximum(261 - exponent, 1), 240)
    return (power << 23).to(tl.float32, bitcast=True)
