"""Pass a matrix to a kernel, as a tensor descriptor or as a pointer."""

from typing import Any

from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor


def matrix_argument(values: Tensor, block_rows: int, block_cols: int, descriptor: bool) -> Any:
    """Return the argument for values (..., rows, cols), contiguous; leading dimensions are rows."""
    if not descriptor:
        return values
    return TensorDescriptor.from_tensor(values.view(-1, values.shape[-1]), [block_rows, block_cols])
