"""The matrix of logits as kernels know it, by numbers only, and where in it a launch works."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from fastclip.rectangle import Interval, Rectangle


class LogitMatrix(NamedTuple):
    """As in `csrc/cuda/logit_matrix.h`; the pair of row i is in column i + pair_offset.

    Args:
        excluded: an interval of columns that each row leaves out, or None; as in `Rectangle`.
        is_transposed: rows and columns have changed places, but not in `excluded`: it is column j
            that leaves out the rows from begin_j to end_j.
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
        """That of columns as rows."""
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
    """What G of the softmax is made of, beside the logits."""

    shift: Tensor  # (M + N,)
    grad_total: Tensor  # (M + N,)
    grad_positive: Tensor  # (M,)
