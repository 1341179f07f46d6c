"""The sigmoid primitive: the order of its kernels. Mathematics: `fastclip/backends/reference.py`.

It computes row losses alone, gradients alone (together 4 units of 2 M N D FLOPs), or the sum of all
losses with its gradients in one pass over the logits (3 units): G needs no statistics of other
tiles.
"""

from types import ModuleType

import torch
from torch import Tensor

from fastclip.backends.gpu.block_walk import Rows, walk
from fastclip.backends.gpu.device import device_of
from fastclip.backends.gpu.logit_matrix import LogitMatrix, Region
from fastclip.backends.gpu.operand import ROW_MULTIPLE, Operand, extent
from fastclip.backends.gpu.partials import PANEL_COLS, PARTIAL_BYTES
from fastclip.backends.gpu.precision import planes_for
from fastclip.backends.gpu.scalars import LargestGradients
from fastclip.backends.kept_logits import no_kept_rows
from fastclip.rectangle import Rectangle, Sides


def siglip_sum(
    kernels: ModuleType,
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    row_features, col_features, logit_scale = rectangle[:3]
    matrix = LogitMatrix.of(rectangle)
    M, N = matrix.M, matrix.N
    planes = planes_for(row_features.dtype)
    with device_of(row_features):
        row_extent, col_extent = (extent(x, rectangle.normalize) for x in rectangle[:2])
        rows = kernels.prepare(row_features, row_extent, planes)
        cols = kernels.prepare(col_features, col_extent, planes)
        values = kernels.scalars(logit_scale, logit_bias, row_extent, col_extent, max(M, N))
        row_loss = values.new_zeros((M,))
        multiple = ROW_MULTIPLE
        panel_cols = min(PANEL_COLS, max(1, PARTIAL_BYTES // (4 * M)) * multiple, cols.plane_rows)
        for first_col in range(0, N, panel_cols):
            num_cols = min(panel_cols, cols.plane_rows - first_col)
            region = Region(matrix, 0, first_col, rows.plane_rows, num_cols)
            row_partial, _ = kernels.sigmoid_tiles(
                region, rows, cols, values, None, None, with_loss=True
            )
            row_loss += row_partial[:, :M].sum(0)
    return row_loss, no_kept_rows(row_features)


def siglip_sum_backward(
    kernels: ModuleType,
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    grad_row_loss: Tensor,  # (M,)
    kept: Tensor,  # (0, 0)
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = rectangle.rows.dtype
    _, *gradients = _gradients(
        kernels, rectangle, logit_bias, grad_row_loss, workspace, dtype, wants
    )
    return tuple(gradients)


def siglip_sum_with_gradients(
    kernels: ModuleType,
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    grad_dtype: torch.dtype,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(kernels, rectangle, logit_bias, None, workspace, grad_dtype, wants)


def _gradients(
    kernels: ModuleType,
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    grad_row_loss: Tensor | None,  # (M,), or None: the sum of losses is wanted too
    workspace: int | None,
    grad_dtype: torch.dtype,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the sum of losses (0 with grad_row_loss), and gradients weighted by grad_row_loss."""
    row_features, col_features, logit_scale = rectangle[:3]
    matrix = LogitMatrix.of(rectangle)
    longest_sum = max(matrix.M, matrix.N)
    with_loss, largest = grad_row_loss is None, LargestGradients()
    if grad_row_loss is not None:
        norm = torch.linalg.vector_norm(grad_row_loss, float("inf"))
        largest = LargestGradients(positive=norm)
    with device_of(row_features):
        row_extent, col_extent = (extent(x, rectangle.normalize) for x in rectangle[:2])
        values = kernels.scalars(
            logit_scale, logit_bias, row_extent, col_extent, longest_sum, largest
        )
        cols = kernels.prepare(col_features, col_extent, planes_for(row_features.dtype))
        loss = values.new_zeros((), dtype=torch.float64)
        grad_bias = torch.zeros_like(loss)

        def fill(block: Tensor, rows: Operand, first_row: int, first_col: int) -> None:
            region = Region(matrix, first_row, first_col, *block.shape[1:])
            row_partial, bias_partial = kernels.sigmoid_tiles(
                region, rows, cols, values, block, grad_row_loss, with_loss
            )
            if with_loss:
                loss.add_(row_partial.sum(dtype=torch.float64))
            grad_bias.add_(bias_partial.sum(dtype=torch.float64))

        def new(features: Tensor, needed: bool) -> Tensor | None:
            return features.new_empty(features.shape, dtype=grad_dtype) if needed else None

        grad_row, grad_col = new(row_features, wants.rows), new(col_features, wants.cols)
        grad_logit_scale = walk(
            kernels, fill, Rows(row_features, row_extent), cols, col_features, values,
            workspace, grad_row, grad_col,
        )  # fmt: skip
    return (
        loss.to(torch.float32),
        row_features.new_empty(0, dtype=grad_dtype) if grad_row is None else grad_row,
        col_features.new_empty(0, dtype=grad_dtype) if grad_col is None else grad_col,
        grad_logit_scale,
        grad_bias.to(torch.float32),
    )
