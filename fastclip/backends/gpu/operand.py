"""Operands: features as the tensor cores multiply them, float16 and padded to whole tiles.

Math
    normalize:  operand_i = 2^8 x_i / max(|x_i|, 1e-12)
    otherwise:  operand_i = f x_i,  f the power of two that brings the largest |x_ik| of the whole
                matrix into [2^7, 2^8]
    planes = 1: high = fp16(operand)
    planes = 2: high as above, low = fp16(operand - high)
    acc_ij = <operand_i, operand_j>, what every matrix kernel multiplies:
        1 segment   high_i high_j
        3 segments  low_i high_j + high_i low_j + high_i high_j: 22 bits of either factor,
                    small products first, where the sum has room for their digits
Numerics
    float16 and not bfloat16, also for bfloat16 features: unit rows need no range, and three more
    bits make logits and gradients 8 to 10 times as accurate. 2^8 keeps small elements normal.
Limits
    Not normalised, elements below 2^-33 of the largest of the matrix are rounded to it.
Source
    Markidis et al. 2018, arXiv:1803.04014, for splitting a factor into two halves.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ROW_MULTIPLE = 256  # the largest tile of any kernel, rows or columns
DIM_MULTIPLE = 64  # the most elements of a row that a kernel loads at a time
UNIT_FACTOR = 256.0  # the factor of a row of norm 1


@dataclass(frozen=True)
class Extent:
    """The numbers of a whole matrix of features that scaling without normalisation needs.

    They stay on the device.
    """

    largest: Tensor  # () float32, max |x_ik|
    norm: Tensor  # () float32, max |x_i|


@dataclass(frozen=True)
class Operand:
    """Rows ready to be multiplied; `values` beyond `num_rows` and D are zero."""

    values: Tensor  # (planes, padded rows, padded D), float16
    norms: Tensor  # (num_rows,) float32, at least EPS; empty where rows are not normalised
    num_rows: int

    @property
    def planes(self) -> int:
        return self.values.shape[0]

    @property
    def segments(self) -> int:
        """How many products of planes make a product of operands."""
        return 1 if self.planes == 1 else 3

    @property
    def plane_rows(self) -> int:
        return self.values.shape[1]

    @property
    def padded_dim(self) -> int:
        return self.values.shape[2]


def padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def extent(features: Tensor, normalize: bool) -> Extent | None:
    """Return the extent of features; None if rows are normalised, which needs no other rows."""
    if normalize:
        return None
    vector_norm = torch.linalg.vector_norm
    largest = vector_norm(features, float("inf"), dtype=torch.float32)
    return Extent(largest, vector_norm(features, dim=1, dtype=torch.float32).amax())
