"""The matrix of logits as kernels know it, by numbers only, and where in it a launch works."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from fastclip.rectangle import Rectangle


class LogitMatrix(NamedTuple):
    """As in `csrc/cuda/logit_matrix.h`; the pair of row i is in column i + pair_offset."""

    M: int
    N: int
    pair_offset: int

    @staticmethod
    def of(rectangle: Rectangle) -> "LogitMatrix":
        return LogitMatrix(len(rectangle.rows), len(rectangle.cols), rectangle.pair_offset)

    def transposed(self) -> "LogitMatrix":
        """That of columns as rows."""
        return LogitMatrix(self.N, self.M, -self.pair_offset)


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
