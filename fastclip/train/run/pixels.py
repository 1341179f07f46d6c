"""Turns the pixels of a loader, on the host, into the images that a model takes, on its device."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from fastclip.data.pixels import standardize
from fastclip.models.tower_precision import TowerPrecision
from fastclip.train.run.model import RunModel


def preparation(
    run_model: RunModel, device: torch.device, precision: TowerPrecision
) -> Callable[[Tensor], Tensor]:
    """Return a function from (B, channels, height, width) uint8 pixels to a model's images.

    The function refers to nothing but numbers, because a step searches everything that its
    functions refer to for random generators.

    Args:
        precision: of the model, which determines the dtype of the images.
    """
    return functools.partial(
        _standard_images, device=device, mean=run_model.mean, std=run_model.std,
        dtype=precision.input_dtype,
    )  # fmt: skip


def _standard_images(
    images: Tensor,
    device: torch.device,
    mean: float | tuple[float, ...],
    std: float | tuple[float, ...],
    dtype: torch.dtype,
) -> Tensor:
    pixels = images.to(device, non_blocking=True)
    return standardize(pixels, mean, std).to(dtype)
