"""What the functions of features take: checked, on one device, and with nan where it is no number.

A row of features that is not finite, as a model that has diverged gives it, is counted, never
right, and counts against what it is compared with.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MAX_BLOCK = 2**26  # numbers of a block of similarities, which are float64: 512 MiB
MOST_ROWS = 1024


def rows_at_a_time(num_columns: int) -> int:
    """How many rows of so many columns make one block."""
    return max(1, min(MOST_ROWS, MAX_BLOCK // max(1, num_columns)))


def checked_features(name: str, values: Any) -> Tensor:
    """Return (N, D) features with a row at least, without gradients.

    Args:
        name: of the argument, for errors.
        values: a tensor, or an array of numpy.

    Raises:
        TypeError: they are not of a floating point type.
        ValueError: they are not (N, D) with N and D of at least 1.
    """
    features = torch.as_tensor(values).detach()
    if not features.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {features.dtype}")
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(f"{name} must be (N, D), N and D >= 1, got {tuple(features.shape)}")
    return features


def checked_numbers(
    name: str, values: Sequence[int] | Tensor, num: int | None, below: int
) -> Tensor:
    """Return (`num`,) int64 numbers in [0, `below`), on the host.

    Args:
        name: of the argument, for errors.
        num: how many there must be, or None for any number.

    Raises:
        TypeError: they are not integers; truth values are none.
        ValueError: they are not `num`, not in one dimension, or one is out of its range.
    """
    numbers = torch.as_tensor(values).detach().cpu()
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {numbers.dtype}")
    numbers = numbers.long()
    if numbers.ndim != 1 or (num is not None and len(numbers) != num):
        wanted = "numbers in one dimension" if num is None else f"{num} numbers in one dimension"
        raise ValueError(f"{name} must be {wanted}, got shape {tuple(numbers.shape)}")
    is_outside = (numbers < 0) | (numbers >= below)
    if is_outside.any():
        place = int(is_outside.nonzero()[0])
        raise ValueError(f"{name} must be in [0, {below}), got {numbers[place]} at {place}")
    return numbers


def finite_or_nan(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return features with nan throughout each row that is not finite, and (N,) bool: which are.

    Of infinite numbers products and their differences may be anything; nan is never right.
    """
    is_finite = features.isfinite().all(1)
    if not is_finite.all():
        features = features.where(is_finite[:, None], torch.nan)
    return features, ~is_finite
