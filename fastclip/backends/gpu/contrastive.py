"""The softmax primitive: the order of its kernels. Mathematics: `fastclip/backends/reference.py`.

Forward    operands, scalars, positives, sums of the negatives, finalise (rows), finalise (columns)
Backward   scalars, the columns' operand, then `block_walk.py`; blocks of G recomputed, or from kept

For a batch that is one block, `csrc/cuda/clip_loss.cpp` repeats this order for `cuda`, in fewer
launches.

Every number that a kernel needs from the data stays on the device: nothing waits for the host, and
a CUDA graph can capture a call. The backward makes the operands again: this moves 8 N D bytes (47
us at N = 32,768, D = 768, by the copy rate), instead of holding 4 N D bytes from forward to
backward.
"""

from types import ModuleType

import torch
from torch import Tensor

from fastclip.backends.both_sides import NO_SHIFT, completed, wanted
from fastclip.backends.gpu.block_walk import Rows, walk
from fastclip.backends.gpu.device import device_of
from fastclip.backends.gpu.logit_matrix import GradientVectors, LogitMatrix, Region
from fastclip.backends.gpu.operand import Operand, extent
from fastclip.backends.gpu.partials import negative_maxima, negative_sums
from fastclip.backends.gpu.precision import kept_dtype, kept_logits, planes_for
from fastclip.backends.gpu.scalars import LargestGradients
from fastclip.rectangle import Rectangle, Sides


def contrastive_lse(
    kernels: ModuleType,
    rectangle: Rectangle,
    workspace: int | None,
    kept_rows: int,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    row_features, col_features, logit_scale = rectangle[:3]
    matrix = LogitMatrix.of(rectangle)
    M, N = matrix.M, matrix.N
    planes = planes_for(row_features.dtype)
    with device_of(row_features):
        row_extent, col_extent = (extent(x, rectangle.normalize) for x in rectangle[:2])
        rows = kernels.prepare(row_features, row_extent, planes)
        cols = kernels.prepare(col_features, col_extent, planes)
        values = kernels.scalars(logit_scale, None, row_extent, col_extent, max(M, N))
        positive = kernels.positives(rows, cols, values, matrix)
        kept = kept_logits(row_features, kept_rows, N)
        partials = negative_sums(kernels, rows, cols, values, matrix, kept)
        row_maximum = col_maximum = None
        if needs_maximum:
            maxima = negative_maxima(kernels, rows, cols, values, matrix, positive)
            row_maximum, col_maximum = maxima.rows.amax(0), maxima.cols.amax(0)
        shift, total = values.new_empty((M + N,)), values.new_empty((M + N,))
        kernels.finalise(
            rows, cols, values, matrix, partials.rows, row_maximum, shift[:M], total[:M]
        )
        transposed = matrix.transposed()
        kernels.finalise(
            cols, rows, values, transposed, partials.cols, col_maximum, shift[M:], total[M:]
        )
    return positive, wanted(shift, rectangle), wanted(total, rectangle), kept.view(torch.uint8)


def contrastive_lse_backward(
    kernels: ModuleType,
    rectangle: Rectangle,
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (sum of lengths,)
    shift: Tensor,  # (sum of lengths,)
    kept: Tensor,  # (kept_rows, bytes of a row) uint8
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    row_features, col_features, logit_scale = rectangle[:3]
    matrix = LogitMatrix.of(rectangle)
    longest_sum = max(matrix.M, matrix.N)
    grad_total = completed(grad_total, rectangle, 0.0)
    vectors = GradientVectors(completed(shift, rectangle, NO_SHIFT), grad_total, grad_positive)
    with device_of(row_features):
        row_extent, col_extent = (extent(x, rectangle.normalize) for x in rectangle[:2])
        largest = LargestGradients(_largest(grad_total), _largest(grad_positive))
        values = kernels.scalars(logit_scale, None, row_extent, col_extent, longest_sum, largest)
        cols = kernels.prepare(col_features, col_extent, planes_for(row_features.dtype))
        kept = kept.view(kept_dtype(row_features.dtype))

        def fill(block: Tensor, rows: Operand, first_row: int, first_col: int) -> None:
            region = Region(matrix, first_row, first_col, *block.shape[1:])
            if first_row < len(kept):
                kernels.from_kept(region, kept, values, block, vectors)
            else:
                kernels.recomputed(region, rows, cols, values, block, vectors)

        grad_row = row_features.new_empty(row_features.shape) if wants.rows else None
        grad_col = col_features.new_empty(col_features.shape) if wants.cols else None
        grad_logit_scale = walk(
            kernels, fill, Rows(row_features, row_extent, len(kept)), cols, col_features, values,
            None if workspace is None else max(0, workspace - kept.nbytes), grad_row, grad_col,
        )  # fmt: skip
    empty = row_features.new_empty(0)
    return (
        empty if grad_row is None else grad_row,
        col_features.new_empty(0) if grad_col is None else grad_col,
        grad_logit_scale,
    )


def _largest(vector: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vector, float("inf"))
