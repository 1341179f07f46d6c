"""Turns stored pixels into what an encoder takes: uint8 in [0, 255] into standardised floats."""

from collections.abc import Sequence

import torch
from torch import Tensor


def standardize(
    images: Tensor,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return (images / 255 - mean) / std, same shape and device, rounded to `dtype` at the end.

    The arithmetic is float32 (float64 if that is `dtype`) and in this order, so that on a CPU the
    result equals torchvision's ToTensor and Normalize bit for bit.

    Args:
        images: (..., C, H, W) uint8; any shape if `mean` and `std` are single numbers.
        mean: in units of the full range, one number for all pixels or one per channel. Use the mean
            that the model was trained with: `get_model_preprocess_cfg(model)["mean"]`.
        std: the standard deviation in the same form, positive.
        dtype: a floating type.

    Raises:
        TypeError: `images` is not uint8 (standardising twice would go unnoticed), or `dtype` is
            not a floating type.
        ValueError: `mean` or `std` does not have one value per channel, or `std` is not positive.

    Example:
        >>> cfg = fastclip.get_model_preprocess_cfg(model)
        >>> images = fastclip.standardize(pixels.to(device), cfg["mean"], cfg["std"])
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating type, got {dtype}")
    if not min(std if isinstance(std, Sequence) else (std,)) > 0:
        raise ValueError(f"std must be positive, got {std}")
    pixels = images.to(torch.float64 if dtype == torch.float64 else torch.float32)
    # A tensor, not a number: CUDA multiplies by the inverse of a number, which rounds differently.
    pixels.div_(torch.full((), 255, dtype=pixels.dtype, device=pixels.device))
    pixels.sub_(per_channel("mean", mean, pixels)).div_(per_channel("std", std, pixels))
    return pixels.to(dtype)


def per_channel(name: str, value: float | Sequence[float], pixels: Tensor) -> Tensor:
    """Return `value` on the device of `pixels`, of shape () or (C, 1, 1), which broadcasts."""
    if not isinstance(value, Sequence):
        return torch.full((), value, dtype=pixels.dtype, device=pixels.device)
    if pixels.ndim < 3 or len(value) != pixels.shape[-3]:
        raise ValueError(
            f"{name} must be one number or one per channel of images of shape "
            f"{tuple(pixels.shape)}, got {value}"
        )
    # non_blocking: a few numbers must not wait for the training step that runs on the device.
    values = torch.tensor(value, dtype=pixels.dtype).to(pixels.device, non_blocking=True)
    return values.view(-1, 1, 1)
