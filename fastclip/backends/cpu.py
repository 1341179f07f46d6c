"""Adapter to the C++ kernels of `csrc/cpu`. Math: `reference.py`; design: the kernels' headers.

Workspace: memory for logits that the forward keeps, which saves the backward a quarter of the
work. By default all of them are kept where they take at most 64 MiB (N <= 4096 in float32), none
otherwise; a `workspace` in bytes keeps as many rows as fit. Apart from it, scratch memory is at
most about 25 MiB at D = 512 (16-bit features add one float32 gradient).
"""

import torch
from torch import Tensor

from fastclip.backends import native
from fastclip.backends.kept_logits import KeptLayout
from fastclip.backends.normalization import compute_dtype

CHECKS_ARGUMENTS = True  # csrc/cpu/arguments.h
OBJECTION = native.load()


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    if device_type != "cpu":
        return f"needs features on the CPU, got {device_type}"
    return OBJECTION


def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    return KeptLayout(default_bytes=64 << 20, element_bytes=compute_dtype(dtype).itemsize)


def contrastive_lse(
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    kept_rows: int,
    needs_maximum: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.fastclip_native.contrastive_lse(
        row_features, col_features, logit_scale, positive_offset, normalize, kept_rows
    )


def contrastive_lse_backward(
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (M + N,)
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    shift: Tensor,  # (M + N,): the maxima
    kept: Tensor,  # (kept_rows, bytes of a row) uint8
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.fastclip_native.contrastive_lse_backward(
        grad_positive, grad_total, row_features, col_features, logit_scale, shift, kept,
        positive_offset, normalize, needs_row_grad, needs_col_grad,
    )  # fmt: skip


def siglip_sum(
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    return torch.ops.fastclip_native.siglip_sum(
        row_features, col_features, logit_scale, logit_bias, positive_offset, normalize, kept_rows
    )


def siglip_sum_backward(
    grad_row_loss: Tensor,  # (M,)
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    kept: Tensor,  # (kept_rows, bytes of a row) uint8
    positive_offset: int,
    normalize: bool,
    workspace: int | None,
    needs_row_grad: bool,
    needs_col_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.fastclip_native.siglip_sum_backward(
        grad_row_loss, row_features, col_features, logit_scale, logit_bias, kept,
        positive_offset, normalize, needs_row_grad, needs_col_grad,
    )  # fmt: skip
