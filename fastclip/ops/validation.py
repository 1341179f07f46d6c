"""Checks of arguments that every backend relies on.

The values of tensors are not checked, because reading them would synchronise with the device.
"""

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype

FEATURE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
REDUCTIONS = ("mean", "none")
_LARGEST = sys.float_info.max


def check_features(image_features: Tensor, text_features: Tensor) -> None:
    image, text = ("image_features", image_features), ("text_features", text_features)
    for name, features in (image, text):
        check_matrix(name, features)
    check_alike(image, text)


def check_extra_text_features(extra: Tensor, image_features: Tensor) -> None:
    """Raise if extra texts do not fit `image_features`, which are valid."""
    name = "extra_text_features"
    if isinstance(extra, Tensor) and extra.dim() == 3:
        raise ValueError(
            f"{name} must have shape (H, D), one pool for all images, got {tuple(extra.shape)}; "
            ".flatten(0, 1) makes one pool of the H texts of each pair"
        )
    check_matrix(name, extra, "(H, D)")
    for what, own, of_images in (
        ("D", extra.shape[1], image_features.shape[1]),
        ("dtype", extra.dtype, image_features.dtype),
        ("device", extra.device, image_features.device),
    ):
        if own != of_images:
            raise ValueError(
                f"{name} must have the {what} of image_features, {of_images}, got {own}"
            )


def check_matrix(name: str, features: Tensor, shape: str = "(B, D)") -> None:
    """Raise if `features` do not have this shape, are not dense or have an unsupported dtype."""
    if not isinstance(features, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(features).__name__}")
    if not is_dense(features):
        raise _not_dense(name, features)
    if features.dim() != 2:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(features.shape)}")
    if features.shape[0] == 0 or features.shape[1] == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(features.shape)}")
    if features.dtype not in FEATURE_DTYPES:
        raise ValueError(
            f"{name} must be dense float32, bfloat16, float16 or float64, got {features.dtype}"
        )


def check_alike(
    one: tuple[str, Tensor], other: tuple[str, Tensor], same_length: bool = True
) -> None:
    """Raise if two named features differ in D, B (if `same_length`), dtype or device."""
    names = f"{one[0]} and {other[0]}"
    a, b = one[1], other[1]
    shapes = f"got shapes {tuple(a.shape)} and {tuple(b.shape)}"
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{names} must have the same D, {shapes}")
    if same_length and a.shape[0] != b.shape[0]:
        raise ValueError(f"{names} must have the same B, {shapes}")
    if a.dtype != b.dtype:
        raise ValueError(f"{names} must have the same dtype, got {a.dtype} and {b.dtype}")
    if a.device != b.device:
        raise ValueError(f"{names} must be on the same device, got {a.device} and {b.device}")


def is_dense(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_nested


def _not_dense(name: str, value: Tensor) -> ValueError:
    form = "a nested tensor" if value.is_nested else f"the layout {value.layout}"
    return ValueError(
        f"{name} must be a dense tensor, got {form}; .to_dense() or .to_padded_tensor() makes one"
    )


def scalar(name: str, value: Any, device: torch.device) -> float | Tensor:
    """Return `value` as a finite Python number, or unchanged if it is a tensor.

    torch.compile treats numpy's numbers as tensors: while it traces, they become tensors on
    `device`, unchecked.

    Raises:
        TypeError: `value` is neither a tensor nor a real number of Python or numpy.
        ValueError: `value` has more than one element, or is not finite.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        if torch.compiler.is_compiling():
            return torch.as_tensor(value, device=device)
        value = _number_of_numpy(name, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a float or a torch.Tensor, got {kind}")
    # Not math.isfinite, which the compiler cannot trace if the number varies from call to call; nor
    # a comparison with infinity: the compiler assumes that every such number is below infinity.
    if not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{name} must be finite, got {value}")
    return value


def _number_of_numpy(name: str, value: Any) -> float:
    if value.size != 1:
        raise ValueError(f"{name} must have one element, got shape {value.shape}")
    if value.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a real number, got a numpy {value.dtype}")
    return float(value.item())  # item() leaves numpy's long double as it is


def scalar_tensor(name: str, value: float | Tensor, features: Tensor) -> Tensor:
    """Return a result of `scalar` as a 0-d tensor for a loss of `features`; keep its gradient."""
    dtype, device = compute_dtype(features.dtype), features.device
    if not isinstance(value, Tensor):
        return torch.full((), value, dtype=dtype, device=device)
    if not is_dense(value):
        raise _not_dense(name, value)
    if value.numel() != 1:
        raise ValueError(f"{name} must have one element, got shape {tuple(value.shape)}")
    if value.is_complex() or value.dtype == torch.bool:
        raise ValueError(f"{name} must be real, got {value.dtype}")
    if value.device != device:
        raise ValueError(
            f"{name} must be on the features' device {device}, got {value.device}; "
            "a Python float works with any device"
        )
    if value.dim() == 0 and value.dtype == dtype:
        return value
    return value.reshape(()).to(dtype)


def check_options(logit_scale: float | Tensor, reduction: str, workspace: int | None) -> None:
    if not isinstance(logit_scale, Tensor) and logit_scale <= 0:
        raise ValueError(
            f"logit_scale must be > 0 (the multiplicative scale, not its log), got {logit_scale}"
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    check_workspace(workspace)


def check_workspace(workspace: int | None) -> None:
    if workspace is None:
        return
    if isinstance(workspace, bool) or not isinstance(workspace, int):
        raise TypeError(
            f"workspace must be a number of bytes (int) or None, got {type(workspace).__name__}"
        )
    if workspace < 0:
        raise ValueError(f"workspace must be >= 0 bytes, got {workspace}")
