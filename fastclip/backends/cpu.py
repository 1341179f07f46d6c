"""Call the C++ kernels of `csrc/cpu`. Math: `reference.py`; design: the kernels' headers.

The workspace holds logits that the forward keeps, which saves a quarter of the work of forward and
backward. By default all logits are kept if they take at most 64 MiB (N <= 4096 in float32), and
none otherwise; a `workspace` in bytes keeps as many rows as fit. Other scratch memory is at most
about 25 MiB at D = 512 (16-bit features add one float32 gradient). The sum of all sigmoid losses
saves the same quarter without a workspace: its gradients come from the forward's logits.

The kernels always compute the statistics of both sides.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastclip.backends import native
from fastclip.backends.both_sides import NO_SHIFT, completed, wanted
from fastclip.backends.kept_logits import KeptLayout
from fastclip.backends.normalization import compute_dtype
from fastclip.rectangle import Rectangle, Sides

CHECKS_ARGUMENTS = True  # csrc/cpu/arguments.h
TAKES_INTERVALS = True
OBJECTION = native.load()


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    if device_type != "cpu":
        return f"it needs features on the CPU, got {device_type}"
    return OBJECTION


@functools.cache
def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    return KeptLayout(default_bytes=64 << 20, element_bytes=compute_dtype(dtype).itemsize)


def contrastive_lse(
    rectangle: Rectangle, workspace: int | None, kept_rows: int, needs_maximum: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    positive, maximum, total, kept = torch.ops.fastclip_native.contrastive_lse(
        *_fields(rectangle), kept_rows
    )
    return positive, wanted(maximum, rectangle), wanted(total, rectangle), kept


def contrastive_lse_backward(
    rectangle: Rectangle,
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (sum of lengths,)
    shift: Tensor,  # (sum of lengths,): the maxima
    kept: Tensor,  # (kept_rows, bytes of a row) uint8
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_total = completed(grad_total, rectangle, 0.0)
    shift = completed(shift, rectangle, NO_SHIFT)
    return torch.ops.fastclip_native.contrastive_lse_backward(
        *_fields(rectangle), grad_positive, grad_total, shift, kept, *wants
    )


def prefix_lse(
    rectangle: Rectangle, dims: Sequence[int], kept_rows: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.fastclip_native.prefix_lse(*rectangle[:3], dims, kept_rows)


def prefix_lse_backward(
    rectangle: Rectangle,
    dims: Sequence[int],
    grad_positive: Tensor,  # (K, M)
    grad_total: Tensor,  # (K, M + N)
    positive: Tensor,  # (K, M)
    maximum: Tensor,  # (K, M + N)
    kept: Tensor,  # (kept_rows, K times the bytes of a row) uint8
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.fastclip_native.prefix_lse_backward(
        *rectangle[:3], dims, grad_positive, grad_total, positive, maximum, kept, *wants
    )


def siglip_sum(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    return torch.ops.fastclip_native.siglip_sum(*_fields(rectangle), logit_bias, kept_rows)


def siglip_sum_backward(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    grad_row_loss: Tensor,  # (M,)
    kept: Tensor,  # (kept_rows, bytes of a row) uint8
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.fastclip_native.siglip_sum_backward(
        *_fields(rectangle), logit_bias, grad_row_loss, kept, *wants
    )


def siglip_sum_with_gradients(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    grad_dtype: torch.dtype,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return torch.ops.fastclip_native.siglip_total(
        *_fields(rectangle), logit_bias, grad_dtype, *wants
    )


def _fields(rectangle: Rectangle) -> tuple[Any, ...]:
    """Return the first arguments of a native operator."""
    begin, end = rectangle.excluded or (None, None)
    return *rectangle[:3], begin, end, rectangle.pair_offset, rectangle.normalize
