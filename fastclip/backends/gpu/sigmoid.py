"""The sigmoid primitive: the order of its kernels. Mathematics: `fastclip/backends/reference.py`.

Row losses alone, gradients alone (4 units of 2 M N D FLOPs together), or the sum of all losses with
its gradients in one pass over the logits (3 units): G needs no statistics of other tiles.
"""

from types import ModuleType

import torch
from torch import Tensor

from fastclip.backends.gpu.block_walk import Rows, walk
from fastclip.backends.gpu.device import device_of
from fastclip.backends.gpu.operand import ROW_MULTIPLE, Operand, extent
from fastclip.backends.gpu.partials import PANEL_COLS, PARTIAL_BYTES
from fastclip.backends.gpu.precision import planes_for
from fastclip.backends.gpu.region import Region
from fastclip.backends.gpu.scalars import LargestGradients
from fastclip.backends.kept_logits import no_kept_rows


def siglip_sum(
    kernels: ModuleType,
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    M, N = len(row_features), len(col_features)
    planes = planes_for(row_features.dtype)
    with device_of(row_features):
        row_extent, col_extent = extent(row_features, normalize), extent(col_features, normalize)
        rows = kernels.prepare(row_features, row_extent, planes)
        cols = kernels.prepare(col_features, col_extent, planes)
        values = kernels.scalars(logit_scale, logit_bias, row_extent, col_extent, max(M, N))
        row_loss = values.new_zeros((M,))
        multiple = ROW_MULTIPLE
        panel_cols = min(PANEL_COLS, max(1, PARTIAL_BYTES // (4 * M)) * multiple, cols.plane_rows)
        for first_col in range(0, N, panel_cols):
            num_cols = min(panel_cols, cols.plane_rows - first_col)
            region = Region(0, first_col, rows.plane_rows, num_cols, M, N, positive_offset)
            row_partial, _ = kernels.sigmoid_tiles(
                region, rows, cols, values, None, None, with_loss=True
            )
            row_loss += row_partial[:, :M].sum(0)
    return row_loss, no_kept_rows(row_features)


def siglip_sum_backward(
    kernels: ModuleType,
    grad_row_loss: Tensor,  # (M,)
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    kept: Tensor,  # (0, 0)
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    largest = LargestGradients(positive=torch.linalg.vector_norm(grad_row_loss, float("inf")))
    _, *gradients = _gradients(
        kernels, grad_row_loss, row_features, col_features, logit_scale, logit_bias,
        positive_offset, normalize, workspace, needs_row_grad, needs_col_grad,
        row_features.dtype, largest, with_loss=False,
    )  # fmt: skip
    return tuple(gradients)


def siglip_sum_with_gradients(
    kernels: ModuleType,
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    grad_dtype: torch.dtype,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(
        kernels, None, row_features, col_features, logit_scale, logit_bias,
        positive_offset, normalize, workspace, needs_row_grad, needs_col_grad,
        grad_dtype, LargestGradients(), with_loss=True,
    )  # fmt: skip


def _gradients(
    kernels: ModuleType,
    grad_row_loss: Tensor | None,
    row_features: Tensor,
    col_features: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
    grad_dtype: torch.dtype,
    largest: LargestGradients,
    with_loss: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The sum of losses (0 without `with_loss`), and its gradients weighted by grad_row_loss."""
    M, N = len(row_features), len(col_features)
    with device_of(row_features):
        row_extent, col_extent = extent(row_features, normalize), extent(col_features, normalize)
        values = kernels.scalars(
            logit_scale, logit_bias, row_extent, col_extent, max(M, N), largest
        )
        cols = kernels.prepare(col_features, col_extent, planes_for(row_features.dtype))
        loss = values.new_zeros((), dtype=torch.float64)
        grad_bias = torch.zeros_like(loss)

        def fill(block: Tensor, rows: Operand, first_row: int, first_col: int) -> None:
            _, num_rows, num_cols = block.shape
            region = Region(first_row, first_col, num_rows, num_cols, M, N, positive_offset)
            row_partial, bias_partial = kernels.sigmoid_tiles(
                region, rows, cols, values, block, grad_row_loss, with_loss
            )
            if with_loss:
                loss.add_(row_partial.sum(dtype=torch.float64))
            grad_bias.add_(bias_partial.sum(dtype=torch.float64))

        def new(features: Tensor, needed: bool) -> Tensor | None:
            return features.new_empty(features.shape, dtype=grad_dtype) if needed else None

        grad_row, grad_col = new(row_features, needs_row_grad), new(col_features, needs_col_grad)
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
