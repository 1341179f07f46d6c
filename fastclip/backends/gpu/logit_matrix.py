"""The matrix of logits as kernels know it, by numbers only, and the region of a launch."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from fastclip.rectangle import Interval, Rectangle


class LogitMatrix(NamedTuple):
    """The matrix, as in `csrc/cuda/logit_matrix.h`; row i has its pair in column i + pair_offset.

    Args:
        excluded: an interval of columns that each row leaves out, or None; as in `Rectangle`.
        is_transposed: whether rows and columns are swapped, but not in `excluded`: then column j
            leaves out the rows from begin_j to end_j.
    """

    M: int
    N: int
    pair_offset: int
    excluded: Interval | None = None
    is_transposed: bool = False

    @staticmethod
    def of(rectangle: Rectangle) -> "LogitMatrix":
        M, N = len(rectangle.rows), len(rectangle.cols)
        return LogitMatrix(M, N, rectangle.pair_offset, rectangle.excluded)

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self[:3]

    def transposed(self) -> "LogitMatrix":
        """Return the matrix with rows and columns swapped."""
        excluded, is_transposed = self.excluded, not self.is_transposed
        return LogitMatrix(self.N, self.M, -self.pair_offset, excluded, is_transposed)


@dataclass(frozen=True)
class Region:
    """A part of a matrix, padded to whole tiles."""

    matrix: LogitMatrix
    first_row: int
    first_col: int
    num_rows: int
    num_cols: int


class GradientVectors(NamedTuple):
    """The vectors that give G of the softmax, together with the logits."""

    shift: Tensor  # (M + N,)
    grad_total: Tensor  # (M + N,)
    grad_positive: Tensor  # (M,)
