"""The CUDA backend: both primitives on a GPU, compiled ahead of time from `csrc/cuda`.

Read in this order: `fastclip/backends/gpu` has the steps, `kernels.py` the launches, and the top of
each file of `csrc/cuda` the mathematics of a kernel. `clip_loss.py` is for a batch that is one
block, whose kernels C++ launches. `library.py` loads the compiled library.
"""

import torch
from torch import Tensor

from fastclip.backends.cuda import library
from fastclip.backends.cuda.clip_loss import (
    clip_loss_at_once,
    clip_loss_at_once_backward,
    cut_of_one_block,
)
from fastclip.backends.cuda.variants import variant_on
from fastclip.backends.gpu import contrastive, sigmoid
from fastclip.backends.gpu.precision import kept_layout

__all__ = [
    "clip_loss_at_once",
    "clip_loss_at_once_backward",
    "contrastive_lse",
    "contrastive_lse_backward",
    "cut_of_one_block",
    "kept_layout",
    "siglip_sum",
    "siglip_sum_backward",
    "siglip_sum_with_gradients",
    "unsupported",
    "variant_on",
]

TAKES_INTERVALS = True
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OBJECTION = library.load()


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    if dtype not in DTYPES:
        return f"it needs float32, bfloat16 or float16, got {str(dtype).removeprefix('torch.')}"
    if device_type == "cpu" and library.emulated():
        return None
    if OBJECTION is not None:
        return OBJECTION
    if not torch.cuda.is_available() or torch.version.hip is not None:
        return "there is no CUDA device"
    if device_type != "cuda":
        return f"it needs features on a GPU, got {device_type}"
    return library.objection_to(torch.cuda.get_device_capability())


def contrastive_lse(*args) -> tuple[Tensor, ...]:
    return contrastive.contrastive_lse(_kernels(), *args)


def contrastive_lse_backward(*args) -> tuple[Tensor, ...]:
    return contrastive.contrastive_lse_backward(_kernels(), *args)


def siglip_sum(*args) -> tuple[Tensor, ...]:
    return sigmoid.siglip_sum(_kernels(), *args)


def siglip_sum_backward(*args) -> tuple[Tensor, ...]:
    return sigmoid.siglip_sum_backward(_kernels(), *args)


def siglip_sum_with_gradients(*args) -> tuple[Tensor, ...]:
    return sigmoid.siglip_sum_with_gradients(_kernels(), *args)


def _kernels():
    from fastclip.backends.cuda import kernels

    return kernels
