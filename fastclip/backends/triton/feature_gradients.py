"""From an accumulated product to the gradient of the features, and what it adds to d logit_scale.

Math, for a row x of either side, acc = weight G (operands of the other side):
    t   = unscale acc                        = G (the other side's rows as multiplied)
    u   = x / |x| where normalised, else x
    d logit_scale += <t, u>
    dx  = s t                                not normalised
    dx  = s (t - u <t, u>) / |x|             normalised; s t / 1e-12 where |x| < 1e-12
Tiling
    ROWS rows of a program, BLOCK_D elements at a time.
Cost
    Reads 4 bytes of acc and the features twice, writes the gradient.
Numerics
    All in float32; one rounding, at the end. The factors of `unscale` are powers of two.
"""

import triton
import triton.language as tl
from torch import Tensor

from fastclip.backends.gpu.operand import Operand
from fastclip.backends.normalization import EPS
from fastclip.backends.triton.launch import launch
from fastclip.backends.triton.operands import (
    ROWS_OF_PROGRAM,
    WARPS_OF_PROGRAM,
    block_d,
    load_features,
)
from fastclip.backends.triton.scalars import SCALE


def feature_gradient(
    acc: Tensor,  # (at least M, padded D) float32
    features: Tensor,  # (M, D)
    operand: Operand,  # of the features: their norms
    scalars: Tensor,
    unscale: int,  # GRAD_ROW or GRAD_COL
    grad: Tensor | None,  # (M, D) written, contiguous; None if it is not needed
) -> Tensor:
    """Return each row's part of d logit_scale, (M,) float32."""
    M, D = features.shape
    grad_scale = acc.new_empty((M,))
    normalize = len(operand.norms) > 0
    launch(
        feature_gradient_kernel,
        (triton.cdiv(M, ROWS_OF_PROGRAM),),
        acc, features, operand.norms if normalize else acc, scalars,
        features if grad is None else grad, grad_scale,
        M, D, acc.shape[1], features.stride(0), features.stride(1),
        UNSCALE=unscale, ROWS=ROWS_OF_PROGRAM, BLOCK_D=block_d(D), NORMALIZE=normalize, EPS=EPS,
        WRITE=grad is not None, num_warps=WARPS_OF_PROGRAM,
    )  # fmt: skip
    return grad_scale


@triton.jit(do_not_specialize=["M"])
def feature_gradient_kernel(
    acc,  # (>= M, acc_stride)
    features,  # (M, D)
    norms,  # (M,)
    scalars,
    grad,  # (M, D)
    grad_scale,  # (M,)
    M,
    D,
    acc_stride,
    row_stride,
    col_stride,
    UNSCALE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NORMALIZE: tl.constexpr,
    EPS: tl.constexpr,
    WRITE: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    dim = tl.arange(0, BLOCK_D)
    unscale = tl.load(scalars + UNSCALE)
    scale = tl.load(scalars + SCALE)
    norm = tl.full((ROWS,), 1.0, tl.float32)
    if NORMALIZE:
        norm = tl.load(norms + row, mask=row < M, other=1.0)
    inverse = tl.div_rn(tl.full((ROWS,), 1.0, tl.float32), norm)[:, None]

    along = tl.zeros((ROWS,), tl.float32)
    for first in range(0, D, BLOCK_D):
        x = load_features(features, row, first + dim, M, D, row_stride, col_stride)
        t = load_features(acc, row, first + dim, M, D, acc_stride, 1) * unscale
        along += tl.sum(t * (x * inverse), 1)
    tl.store(grad_scale + row, along, mask=row < M)

    if WRITE:
        radial = along
        if NORMALIZE:
            radial = tl.where(norm > EPS, along, 0.0)
        for first in range(0, D, BLOCK_D):
            x = load_features(features, row, first + dim, M, D, row_stride, col_stride)
            dx = load_features(acc, row, first + dim, M, D, acc_stride, 1) * unscale
            if NORMALIZE:
                dx -= (x * inverse) * radial[:, None]
            dx *= scale * inverse
            offsets = row[:, None] * D + (first + dim)[None, :]
            inside = (row < M)[:, None] & ((first + dim) < D)[None, :]
            tl.store(grad + offsets, dx.to(grad.dtype.element_ty), mask=inside)
