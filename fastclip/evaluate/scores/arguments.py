"""Check the arguments of the scores: features, and integers such as labels.

A row of features that is not finite, as a diverged model returns it, is counted: its answer is
never right, and as a candidate it counts against the model.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MAX_BLOCK = 2**26  # similarities that exist at once, in float64: 512 MiB
MOST_ROWS = 1024


def rows_at_a_time(num_columns: int) -> int:
    """Return the number of rows of a block of similarities with `num_columns` columns."""
    return max(1, min(MOST_ROWS, MAX_BLOCK // max(1, num_columns)))


def checked_features(name: str, values: Any) -> Tensor:
    """Return (N, D) features with at least one row, without gradients.

    Args:
        name: the name of the argument, for errors.
        values: a tensor, or a numpy array.

    Raises:
        TypeError: the values are not floating point.
        ValueError: the values are not (N, D) with N and D at least 1.
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
        name: the name of the argument, for errors.
        values: the numbers.
        num: the required count, or None for any count.
        below: the end of the range.

    Raises:
        TypeError: the values are not integers; bools do not count as integers.
        ValueError: the count is not `num`, there is not one dimension, or a number is out of range.
    """
    numbers = torch.as_tensor(values).detach().cpu()
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {numbers.dtype}")
    numbers = numbers.long()
    if numbers.ndim != 1 or (num is not None and len(numbers) != num):
        wanted = "one-dimensional" if num is None else f"{num} numbers in one dimension"
        raise ValueError(f"{name} must be {wanted}, got shape {tuple(numbers.shape)}")
    is_outside = (numbers < 0) | (numbers >= below)
    if is_outside.any():
        place = int(is_outside.nonzero()[0])
        raise ValueError(f"{name} must be in [0, {below}), got {numbers[place]} at {place}")
    return numbers


def finite_or_nan(features: Tensor) -> tuple[Tensor, Tensor]:
    """Fill each row that is not finite with nan; return the features, and (N,) bool of these rows.

    Products of infinite numbers may be anything, whereas nan never counts as right.
    """
    is_finite = features.isfinite().all(1)
    if not is_finite.all():
        features = features.where(is_finite[:, None], torch.nan)
    return features, ~is_finite
