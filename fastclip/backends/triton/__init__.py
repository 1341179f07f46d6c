"""The Triton backend: both primitives on a GPU, compiled by Triton at the first call.

Read in this order: `fastclip/backends/gpu` has the steps; `operands.py`, `scalars.py`,
`positives.py`, `negative_sums.py`, `finalise.py`, `logit_gradients.py` and `feature_gradients.py`
are the kernels, and `sigmoid_tiles.py` the kernel of SigLIP; `similarity.py` is the product that
they share, `intervals.py` has what rows leave out, and `tiles.py` what depends on the architecture.

Until the backend is used, only this file is imported; it does not import triton.
"""

import importlib.util
import os

import torch
from torch import Tensor

from fastclip.backends.gpu.precision import kept_layout

__all__ = [
    "contrastive_lse",
    "contrastive_lse_backward",
    "kept_layout",
    "siglip_sum",
    "siglip_sum_backward",
    "siglip_sum_with_gradients",
    "unsupported",
    "variant_on",
]

TAKES_INTERVALS = True
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OLDEST_CAPABILITY = (8, 0)


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    if device_type not in ("cuda", "cpu"):
        return f"it needs features on a GPU, got {device_type}"
    if device_type == "cpu" and not interpreting():
        return "it needs features on a GPU, got cpu (TRITON_INTERPRET=1 runs it there for tests)"
    if dtype not in DTYPES:
        return f"it needs float32, bfloat16 or float16, got {str(dtype).removeprefix('torch.')}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device_type == "cpu":
        if dtype == torch.bfloat16:
            return "Triton's interpreter computes bfloat16 wrongly"
        return None
    if interpreting():
        return "TRITON_INTERPRET is set, and Triton's interpreter needs features on the CPU"
    return _gpu_objection()


def variant_on(device: torch.device) -> str:
    return ""  # the kernels are the same everywhere, tiles differ


def interpreting() -> bool:
    """Return whether Triton will interpret its kernels; it reads the variable at its import."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def _gpu_objection() -> str | None:
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if torch.version.hip is None and torch.cuda.get_device_capability() < OLDEST_CAPABILITY:
        return "it needs compute capability 8.0 (Ampere) or newer, got {}.{}".format(
            *torch.cuda.get_device_capability()
        )
    from fastclip.backends.triton.tiles import architecture, row_for

    name = architecture(torch.device("cuda"))
    return None if row_for(name) else f"it has no tile sizes for {name}"


def contrastive_lse(*args) -> tuple[Tensor, ...]:
    from fastclip.backends.gpu import contrastive
    from fastclip.backends.triton import kernels

    return contrastive.contrastive_lse(kernels, *args)


def contrastive_lse_backward(*args) -> tuple[Tensor, ...]:
    from fastclip.backends.gpu import contrastive
    from fastclip.backends.triton import kernels

    return contrastive.contrastive_lse_backward(kernels, *args)


def siglip_sum(*args) -> tuple[Tensor, ...]:
    from fastclip.backends.gpu import sigmoid
    from fastclip.backends.triton import kernels

    return sigmoid.siglip_sum(kernels, *args)


def siglip_sum_backward(*args) -> tuple[Tensor, ...]:
    from fastclip.backends.gpu import sigmoid
    from fastclip.backends.triton import kernels

    return sigmoid.siglip_sum_backward(kernels, *args)


def siglip_sum_with_gradients(*args) -> tuple[Tensor, ...]:
    from fastclip.backends.gpu import sigmoid
    from fastclip.backends.triton import kernels

    return sigmoid.siglip_sum_with_gradients(kernels, *args)
