"""The backward's walk over the blocks of G: fill a block, multiply it twice, discard it.

    for rows in chunks:    operand of the chunk, float32 product of the chunk
        for columns in panels:
            block = G of (chunk, panel)                   the caller's `fill`
            product_row += block col;  product_col[panel] += block^T row
        gradient of the chunk's features
    gradient of the columns' features

Memory beyond the gradients: the columns' operand (2 N D bytes) and product (4 N D bytes), the same
for one chunk of rows, and the block (`blocks.py`). With float32-grade products operands are twice
as large. A side without gradient has no product, unless d logit_scale needs it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from fastclip.backends.gpu.blocks import block_for, even_parts
from fastclip.backends.gpu.operand import ROW_MULTIPLE, Extent, Operand, padded
from fastclip.backends.gpu.products import accumulate
from fastclip.backends.gpu.scalars import GRAD_COL, GRAD_ROW

# fill(block (planes, m, n) float16, operand of its rows, its first row, its first column): m and n
# are padded to whole tiles; everything of the block is written.
Fill = Callable[[Tensor, Operand, int, int], None]


@dataclass(frozen=True)
class Rows:
    """The side that is prepared one chunk at a time."""

    features: Tensor  # (M, D)
    extent: Extent | None
    kept: int = 0  # the number of rows with kept logits, which come first; no chunk has both

    def chunks(self, size: int) -> Iterator[slice]:
        for begin, end in ((0, self.kept), (self.kept, len(self.features))):
            yield from even_parts(begin, end, size)


def walk(
    kernels: ModuleType,
    fill: Fill,
    rows: Rows,
    cols: Operand,
    col_features: Tensor,  # (N, D)
    scalars: Tensor,
    workspace: int | None,
    grad_row: Tensor | None,  # (M, D) written; None if not needed
    grad_col: Tensor | None,  # (N, D) likewise
) -> Tensor:
    """Compute all gradients; return grad_logit_scale, () float32."""
    M, N = len(rows.features), cols.num_rows
    block = block_for(M, N, rows.features.shape[1], workspace, cols.planes)
    chunk_rows = padded(min(block.rows, M), ROW_MULTIPLE)
    panel_cols = min(block.cols, cols.plane_rows)
    with_rows = grad_row is not None or grad_col is None

    buffer = cols.values.new_empty((cols.planes * chunk_rows * panel_cols,))
    float32 = {"dtype": torch.float32}
    row_product = cols.values.new_empty(
        (chunk_rows if with_rows else 0, cols.padded_dim), **float32
    )
    col_shape = cols.plane_rows if grad_col is not None else 0, cols.padded_dim
    col_product = cols.values.new_empty(col_shape, **float32)
    grad_scale = scalars.new_empty((M if with_rows else 0,))

    for chunk in rows.chunks(block.rows):
        features = rows.features[chunk]
        operand = kernels.prepare(features, rows.extent, cols.planes)
        num_rows = operand.plane_rows
        for panel in even_parts(0, cols.plane_rows, panel_cols):
            shape = cols.planes, num_rows, panel.stop - panel.start
            of_block = buffer[: math.prod(shape)].view(shape)
            fill(of_block, operand, chunk.start, panel.start)
            if with_rows:
                product = row_product[:num_rows]
                accumulate(product, of_block, cols.values[:, panel], first=panel.start == 0)
            if grad_col is not None:
                transposed = of_block.transpose(1, 2)
                product = col_product[panel]
                accumulate(product, transposed, operand.values, first=chunk.start == 0)
        if with_rows:
            grad = None if grad_row is None else grad_row[chunk]
            grad_scale[chunk] = kernels.feature_gradient(
                row_product, features, operand, scalars, GRAD_ROW, grad
            )
        del operand  # before the next one is made
    if grad_col is not None:
        of_cols = kernels.feature_gradient(
            col_product, col_features, cols, scalars, GRAD_COL, grad_col
        )
        if not with_rows:
            grad_scale = of_cols
    return grad_scale.sum(dtype=torch.float64).to(torch.float32)
