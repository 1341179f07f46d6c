"""The kernel of the scalars. Mathematics: `fastclip/backends/gpu/scalars.py`.

Tiling
    One program of one warp.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu import scalars as vector
from fastclip.backends.gpu.operand import Extent
from fastclip.backends.gpu.scalars import NUM_SCALARS, LargestGradients
from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.operands import UNIT_FACTOR, power_of_two_factor

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
BOUND_MARGIN = tl.constexpr(vector.BOUND_MARGIN)
LARGEST_SUM = tl.constexpr(vector.LARGEST_SUM)
KEPT_LEVELS = tl.constexpr(vector.KEPT_LEVELS)
LARGEST_WEIGHTED = tl.constexpr(vector.LARGEST_WEIGHTED)

UNIT = tl.constexpr(vector.UNIT)
SHIFT = tl.constexpr(vector.SHIFT)
BIAS = tl.constexpr(vector.BIAS)
STEP = tl.constexpr(vector.STEP)
WEIGHT = tl.constexpr(vector.WEIGHT)
GRAD_ROW = tl.constexpr(vector.GRAD_ROW)
GRAD_COL = tl.constexpr(vector.GRAD_COL)
SCALE = tl.constexpr(vector.SCALE)


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
    extents = (
        (logit_scale,) * 4
        if row_extent is None
        else (row_extent.largest, row_extent.norm, col_extent.largest, col_extent.norm)
    )
    launch(
        scalars_kernel,
        (1,),
        values,
        logit_scale,
        logit_scale if logit_bias is None else logit_bias,
        *extents,
        logit_scale if gradients is None or gradients.total is None else gradients.total,
        logit_scale if gradients is None or gradients.positive is None else gradients.positive,
        longest_sum,
        NORMALIZED=row_extent is None, WITH_BIAS=logit_bias is not None,
        GRADIENTS=gradients is not None,
        OF_TOTAL=gradients is not None and gradients.total is not None,
        OF_POSITIVE=gradients is not None and gradients.positive is not None,
        num_warps=1,
    )  # fmt: skip
    return values


@triton.jit(do_not_specialize=["longest_sum"])
def scalars_kernel(
    values,  # (NUM_SCALARS,)
    logit_scale,  # ()
    logit_bias,  # ()
    row_largest,  # ()
    row_norm,  # ()
    col_largest,  # ()
    col_norm,  # ()
    grad_total,  # ()
    grad_positive,  # ()
    longest_sum,
    NORMALIZED: tl.constexpr,
    WITH_BIAS: tl.constexpr,
    GRADIENTS: tl.constexpr,
    OF_TOTAL: tl.constexpr,
    OF_POSITIVE: tl.constexpr,
):
    scale = tl.load(logit_scale)
    if NORMALIZED:
        row_factor = 1.0 / UNIT_FACTOR
        col_factor = 1.0 / UNIT_FACTOR
        bound = tl.abs(scale) * BOUND_MARGIN * LOG2_E
    else:
        # Reciprocals of powers of two, which are exact.
        row_factor = 1.0 / power_of_two_factor(tl.load(row_largest))
        col_factor = 1.0 / power_of_two_factor(tl.load(col_largest))
        bound = tl.abs(scale) * BOUND_MARGIN * LOG2_E * tl.load(row_norm) * tl.load(col_norm)
    shift = bound + tl.math.log2(longest_sum.to(tl.float32)) - LARGEST_SUM
    tl.store(values + UNIT, scale * LOG2_E * row_factor * col_factor)
    tl.store(values + SHIFT, tl.where(shift < 0.0, 0.0, shift))
    tl.store(values + STEP, bound / KEPT_LEVELS)
    tl.store(values + SCALE, scale)
    if WITH_BIAS:
        tl.store(values + BIAS, tl.load(logit_bias) * LOG2_E)
    if GRADIENTS:
        largest = tl.full((), 0.0, tl.float32)
        if OF_TOTAL:
            largest = 4.0 * tl.load(grad_total)
        if OF_POSITIVE:
            largest = tl.maximum(largest, tl.load(grad_positive))
        if not OF_TOTAL and not OF_POSITIVE:
            largest += 1.0
        # The factor brings it up to UNIT_FACTOR.
        weight = power_of_two_factor(largest) * (LARGEST_WEIGHTED / UNIT_FACTOR)
        tl.store(values + WEIGHT, weight)
        tl.store(values + GRAD_ROW, col_factor / weight)
        tl.store(values + GRAD_COL, row_factor / weight)
