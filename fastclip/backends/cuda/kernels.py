"""Launch the compiled kernels, with the interface that `fastclip/backends/gpu` defines.

Mathematics, cost and limits are at the top of each file of `csrc/cuda`.
"""

import torch
from torch import Tensor

from fastclip.backends.cuda import library
from fastclip.backends.cuda.variants import variant_for
from fastclip.backends.gpu.logit_matrix import GradientVectors, LogitMatrix, Region
from fastclip.backends.gpu.operand import DIM_MULTIPLE, ROW_MULTIPLE, Extent, Operand, padded
from fastclip.backends.gpu.partials import Partials, Reduction, over_panels
from fastclip.backends.gpu.scalars import NUM_SCALARS, LargestGradients


def scalars(
    logit_scale: Tensor,  # ()
    logit_bias: Tensor | None,  # ()
    row_extent: Extent | None,
    col_extent: Extent | None,
    longest_sum: int,
    gradients: LargestGradients | None = None,
) -> Tensor:
    """Return (NUM_SCALARS,) float32; WEIGHT, GRAD_ROW and GRAD_COL only with `gradients`."""
    values = logit_scale.new_empty((NUM_SCALARS,), dtype=torch.float32)
    _launch(
        "scalars", values,
        values, logit_scale.float(), None if logit_bias is None else logit_bias.float(),
        None if row_extent is None else row_extent.largest,
        None if row_extent is None else row_extent.norm,
        None if col_extent is None else col_extent.largest,
        None if col_extent is None else col_extent.norm,
        None if gradients is None else gradients.total,
        None if gradients is None else gradients.positive,
        gradients is not None, longest_sum,
    )  # fmt: skip
    return values


def prepare(features: Tensor, of: Extent | None, planes: int) -> Operand:
    """Make the operand of features (M, D), any strides.

    Args:
        of: the extent of the matrix to which these rows belong; None normalises them.
    """
    M, D = features.shape
    shape = planes, padded(M, ROW_MULTIPLE), padded(D, DIM_MULTIPLE)
    values = features.new_empty(shape, dtype=torch.float16)
    norms = features.new_empty((M if of is None else 0,), dtype=torch.float32)
    _launch("prepare", values, features, None if of is None else of.largest, values, norms)
    return Operand(values, norms, M)


def positives(rows: Operand, cols: Operand, scalars: Tensor, matrix: LogitMatrix) -> Tensor:
    """Return the logits of the pairs, (M,) float32."""
    positive = scalars.new_empty((matrix.M,))
    _launch("positives", scalars, rows.values, cols.values, scalars, positive, *matrix.numbers[1:])
    return positive


def partials(of: Reduction) -> Partials:
    variant = variant_for(of.scalars.device)

    def one_panel(
        first_col_tile: int,
        num_tiles: int,
        strip_tiles: int,
        row_partial: Tensor,  # (at least num_tiles, M)
        col_partial: Tensor,  # (strips * strip_partials, N)
    ) -> None:
        num_strips = len(col_partial) // variant.strip_partials
        _launch(
            variant.prefix + "negative_sums", of.scalars,
            of.rows.values, of.cols.values, of.scalars, row_partial, col_partial, of.positive,
            of.kept, *of.matrix.numbers, *_interval(of.matrix),
            first_col_tile, num_tiles, strip_tiles, num_strips, of.maximum,
        )  # fmt: skip

    return over_panels(
        one_panel, of.matrix.M, of.matrix.N, variant.block_m, variant.block_n,
        variant.strip_partials, of.maximum, of.scalars,
    )  # fmt: skip


def finalise(
    rows: Operand,
    cols: Operand,
    scalars: Tensor,
    matrix: LogitMatrix,
    partials: Tensor,  # (num_partials, M)
    maximum: Tensor | None,  # (M,) in log2 units, or None if any shift will do
    shift: Tensor,  # (M,) written
    total: Tensor,  # (M,) written
) -> None:
    """Finalise rows; or columns, with both operands swapped and the matrix transposed."""
    _launch(
        "finalise", scalars, rows.values, cols.values, scalars, partials, maximum, shift, total,
        *matrix.numbers[1:], *_interval(matrix), matrix.is_transposed,
    )  # fmt: skip


def recomputed(
    region: Region,
    rows: Operand,  # of the region's rows only
    cols: Operand,
    scalars: Tensor,
    block: Tensor,  # (planes, num_rows, num_cols) float16, written
    vectors: GradientVectors,
) -> None:
    _launch(
        variant_for(block.device).prefix + "logit_gradients", block,
        rows.values, cols.values, scalars, *vectors, block,
        *region.matrix.numbers[1:], *_interval(region.matrix), region.first_row, region.first_col,
    )  # fmt: skip


def from_kept(
    region: Region,
    kept: Tensor,  # (kept_rows, columns) int16 or float32
    scalars: Tensor,
    block: Tensor,  # (planes, num_rows, num_cols) float16, written
    vectors: GradientVectors,
) -> None:
    _launch(
        "kept_gradients", block, kept, scalars, *vectors, block,
        *region.matrix.numbers[1:], *_interval(region.matrix), region.first_row, region.first_col,
    )  # fmt: skip


def sigmoid_tiles(
    region: Region,
    rows: Operand,  # of the region's rows only
    cols: Operand,
    scalars: Tensor,
    block: Tensor | None,  # (planes, num_rows, num_cols) float16, written
    grad_row_loss: Tensor | None,  # (M,), g; None for ones
    with_loss: bool,
) -> tuple[Tensor, Tensor]:
    """Return sums of losses and of G over each tile's columns, (column tiles, num_rows) both."""
    variant = variant_for(scalars.device)
    num_tiles = region.num_cols // variant.block_n
    row_partial = scalars.new_empty((num_tiles if with_loss else 0, region.num_rows))
    bias_partial = scalars.new_empty((0 if block is None else num_tiles, region.num_rows))
    _launch(
        variant.prefix + "sigmoid_tiles", scalars,
        rows.values, cols.values, scalars, grad_row_loss, row_partial, bias_partial, block,
        region.num_rows, region.num_cols, region.first_row, region.first_col,
        *region.matrix.numbers, *_interval(region.matrix), with_loss,
    )  # fmt: skip
    return row_partial, bias_partial


def feature_gradient(
    acc: Tensor,  # (at least M, padded D) float32
    features: Tensor,  # (M, D)
    operand: Operand,  # of the features: their norms
    scalars: Tensor,
    unscale: int,  # GRAD_ROW or GRAD_COL
    grad: Tensor | None,  # (M, D) written, contiguous; None if it is not needed
) -> Tensor:
    """Return each row's part of d logit_scale, (M,) float32."""
    grad_scale = acc.new_empty((len(features),))
    norms = operand.norms if len(operand.norms) > 0 else None
    _launch("feature_gradient", acc, acc, features, norms, scalars, unscale, grad, grad_scale)
    return grad_scale


def _interval(matrix: LogitMatrix) -> tuple[Tensor | None, Tensor | None]:
    """Return begin and end of the columns that rows leave out, or (None, None)."""
    return matrix.excluded or (None, None)


def _launch(name: str, on: Tensor, *args) -> None:
    """Launch on the current device, which must be the device of `on`, and its current stream."""
    getattr(library.operators(on.device.type), name)(*args, library.current_stream(on))
