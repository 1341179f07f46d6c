"""The scalars of a call, a vector computed on the device: nothing waits for the host.

Math, with s = logit_scale, f_r and f_c the factors of the two operands, all logits in log2 units:
    unit    = s log2(e) / (f_r f_c)             a logit is unit * acc
    bound   = 1.01 |s| log2(e) max|row| max|col|     of |logit|; norms are 1 where normalised
    shift   = max(0, bound + log2(longest sum) - 96)     of every sum's exponentials
    bias    = logit_bias log2(e)                where there is one
    step    = bound / 32767     of a kept logit, in 16 bits
    weight  = 2^14 / largest |G|, rounded down to a power of two
    grad_row = 1 / (f_c weight),  grad_col = 1 / (f_r weight)
    scale   = s
Numerics
    A sum of 2^(logit - shift) is at most 2^96: it does not overflow, and neither does its
    gradient, about 2^-96 over the batch, underflow. What underflows is lost below 2^-126 and
    recomputed where that could matter, in rows whose sum is below 2^-80.
    |G| is at most 2 |grad_total| + 2 |grad_total'| (a total is below 2, so are its exponentials) or
    |grad_positive|; `weight` brings it into float16's range.
"""

from dataclasses import dataclass

from torch import Tensor

# Where each scalar stands in the vector, (NUM_SCALARS,) float32.
UNIT = 0
SHIFT = 1
BIAS = 2
STEP = 3
WEIGHT = 4
GRAD_ROW = 5  # from an accumulated product P col to G col, in the columns' own units
GRAD_COL = 6
SCALE = 7
NUM_SCALARS = 8

BOUND_MARGIN = 1.01  # operands are rounded
LARGEST_SUM = 96.0  # log2
TRUSTED_SUM = 2.0**-80
KEPT_LEVELS = 32767.0
LARGEST_WEIGHTED = 2.0**14  # weight |G|


@dataclass(frozen=True)
class LargestGradients:
    """The bounds of the largest |G|, () float32 each; None where there is no such gradient.

    If both are None, |G| is at most 1.
    """

    total: Tensor | None = None  # max |dL/d total|; exponentials are below 2
    positive: Tensor | None = None  # max |dL/d positive|, or max |dL/d row loss|
