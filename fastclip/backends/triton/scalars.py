"""The scalars of a call, computed on the device: nothing here waits for the host.

Math, with s = logit_scale, f_r and f_c the factors of the two operands, all logits in log2 units:
    unit    = s log2(e) / (f_r f_c)             a logit is unit * acc
    bound   = 1.01 |s| log2(e) max|row| max|col|     of |logit|; norms are 1 where normalised
    shift   = max(0, bound + log2(longest sum) - 96)     of every sum's exponentials
    step    = bound / 32767     of a kept logit, in 16 bits
    weight  = 2^14 / largest |G|, rounded down to a power of two
Numerics
    A sum of 2^(logit - shift) is at most 2^96: it does not overflow, and neither does its
    gradient, about 2^-96 over the batch, underflow. What underflows is lost below 2^-126 and
    recomputed where that could matter (`finalise.py`).
    |G| is at most 2 |grad_total| + 2 |grad_total'| (a total is below 2, so are its exponentials) or
    |grad_positive|; `weight` brings it into float16's range.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.operands import UNIT_FACTOR, Extent, power_of_two_factor

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
LARGEST_SUM = tl.constexpr(96.0)  # log2
KEPT_LEVELS = tl.constexpr(32767.0)

# Where each scalar stands in the vector that the kernels get.
UNIT = tl.constexpr(0)
SHIFT = tl.constexpr(1)
BIAS = tl.constexpr(2)
STEP = tl.constexpr(3)
WEIGHT = tl.constexpr(4)
GRAD_ROW = tl.constexpr(5)  # from an accumulated product P col to G col, in the columns' own units
GRAD_COL = tl.constexpr(6)
SCALE = tl.constexpr(7)
NUM_SCALARS = 8


@dataclass(frozen=True)
class LargestGradients:
    """What bounds the largest |G|, () float32 each; None where there is no such gradient.

    With neither, |G| is at most 1.
    """

    total: Tensor | None = None  # max |dL/d total|, each met with exponentials below 2
    positive: Tensor | None = None  # max |dL/d positive|, or of row losses


def scalars(
    logit_scale: Tensor,  # ()
    logit_bias: Tensor | None,  # ()
    row_extent: Extent | None,
    col_extent: Extent | None,
    longest_sum: int,
    gradients: LargestGradients | None = None,
) -> Tensor:
    """(NUM_SCALARS,) float32; with `gradients` also WEIGHT and what follows from it."""
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
        bound = 1.01 * tl.abs(scale) * LOG2_E
    else:
        # Reciprocals of powers of two, which are exact.
        row_factor = 1.0 / power_of_two_factor(tl.load(row_largest))
        col_factor = 1.0 / power_of_two_factor(tl.load(col_largest))
        bound = 1.01 * tl.abs(scale) * LOG2_E * tl.load(row_norm) * tl.load(col_norm)
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
        # In [2^7, 2^8) after its factor; 2^14 is the aim.
        weight = power_of_two_factor(largest) * 64.0
        tl.store(values + WEIGHT, weight)
        tl.store(values + GRAD_ROW, col_factor / weight)
        tl.store(values + GRAD_COL, row_factor / weight)
