"""What rows leave out, as kernels see it: of row i, the columns begin_i <= j < end_i.

Math
    A tile meets an interval if an entry of it is left out: max(begin_i, first column) <
    min(end_i, first column + BLOCK_N) for one of its rows. Only such tiles look at entries: others
    have the bits that they have without intervals. A logit that is left out may have overflowed.
Cost
    8 bytes read per row of a tile, and a maximum over its rows. A tile that meets an interval reads
    them again, as registers are scarcer, and compares twice per logit. How many do is a matter of
    the order of rows and columns: few, if both are in the order of what is left out.
"""

import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu.logit_matrix import LogitMatrix

# Parameters of kernels, parts of longer vectors: their alignment would compile second variants.
INTERVALS = ["begins", "ends"]


def interval_arguments(matrix: LogitMatrix, unused: Tensor) -> tuple[Tensor, Tensor]:
    """Return begin and end, int32, or twice `unused` for a kernel with EXCLUDES = False."""
    return (unused, unused) if matrix.excluded is None else matrix.excluded


@triton.jit
def meets(begins, ends, row, M, first_col, BLOCK_N: tl.constexpr):
    """Whether the rows of a tile leave out one of its columns."""
    begin, end = load_interval(begins, ends, row, M)
    some = tl.maximum(begin, first_col) < tl.minimum(end, first_col + BLOCK_N)
    return tl.max(some.to(tl.int32), 0) != 0


@triton.jit
def leave_out(value, neutral, begins, ends, row, col, M, positive_offset):
    """`value` of a tile, with `neutral` where an entry is left out and no pair."""
    out = is_left_out(begins, ends, row, col, M)
    pair = (row + positive_offset)[:, None] == col[None, :]
    return tl.where(out & (pair == 0), neutral, value)


@triton.jit
def is_left_out(begins, ends, row, col, M):
    """(rows, columns) of a tile."""
    begin, end = load_interval(begins, ends, row, M)
    return (begin[:, None] <= col[None, :]) & (col[None, :] < end[:, None])


@triton.jit
def is_left_out_by_columns(begins, ends, row, col, N):
    """The same where column j leaves out the rows begin_j <= i < end_j."""
    begin, end = load_interval(begins, ends, col, N)
    return (begin[None, :] <= row[:, None]) & (row[:, None] < end[None, :])


@triton.jit
def load_interval(begins, ends, index, length):
    """begin and end; of what is beyond the matrix an empty interval."""
    inside = index < length
    begin = tl.load(begins + index, mask=inside, other=0)
    return begin, tl.load(ends + index, mask=inside, other=0)
