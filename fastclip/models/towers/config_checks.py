"""Checks that the values of a configuration have the right types and are within their bounds.

A configuration may come from a stranger's file, so all of it is checked before a model is built.
"""

import math
from numbers import Integral, Real
from typing import Any

from fastclip.data.limits import (
    LARGEST_EXPONENT,
    LARGEST_IMAGE,
    LARGEST_MLP_RATIO,
    LARGEST_VOCABULARY,
    LARGEST_WIDTH,
    MOST_PATCHES,
)
from fastclip.data.quoting import quoted


def require_sizes(largest: int = LARGEST_WIDTH, **sizes: int) -> None:
    """Raise a ValueError unless every size is a whole number from 1 to `largest`."""
    for name, size in sizes.items():
        if not _is_whole(size) or not 1 <= size <= largest:
            raise ValueError(
                f"{name} must be a whole number from 1 to {largest:,}, got {quoted(size)}"
            )


def require_token(**ids: int) -> None:
    """Raise a ValueError unless every value may be the id of a token."""
    for name, token in ids.items():
        if not _is_whole(token) or not 0 <= token < LARGEST_VOCABULARY:
            raise ValueError(
                f"{name} must be the id of a token, a whole number from 0 to "
                f"{LARGEST_VOCABULARY - 1:,}, got {quoted(token)}"
            )


def require_flags(**flags: bool | None) -> None:
    """Raise a ValueError unless every flag is a bool, 0, 1 or None, as open_clip accepts them."""
    for name, flag in flags.items():
        if not isinstance(flag, (bool, int, type(None))) or flag not in (0, 1, None):
            raise ValueError(f"{name} must be true or false, got {quoted(flag)}")


def require_blocks(width: int, mlp_ratio: float, norm_eps: float) -> None:
    """Raise a ValueError unless these are valid settings of a transformer's blocks."""
    _require_number("mlp_ratio", mlp_ratio, LARGEST_MLP_RATIO)
    if int(width * mlp_ratio) < 1:
        raise ValueError(
            f"mlp_ratio must give an MLP at least 1 channel at width {width}, got {mlp_ratio}"
        )
    _require_number("norm_eps", norm_eps, 1)
    if norm_eps < 0:
        raise ValueError(f"norm_eps must not be negative, got {norm_eps}")


def require_exponents(**exponents: float) -> None:
    """Raise a ValueError unless every number is moderate, positive or negative."""
    for name, exponent in exponents.items():
        _require_number(name, exponent, LARGEST_EXPONENT)


def require_patches(image_size: Any, patch_size: int, whole: bool = True) -> tuple[int, int]:
    """Return the height and width of images, which must give at least one patch and not too many.

    Args:
        image_size: (height, width) in pixels, or one number for both.
        patch_size: the side of a patch, or the stride of a convolutional tower.
        whole: whether the image must be a whole number of patches.

    Raises:
        ValueError: `image_size` has another type or is out of bounds.
    """
    size = (image_size, image_size) if _is_whole(image_size) else image_size
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(map(_is_whole, size)):
        raise ValueError(
            f"image_size must be a whole number of pixels, or height and width, got {quoted(size)}"
        )
    size = tuple(size)
    if min(size) < patch_size:
        raise ValueError(
            f"image_size must be at least {patch_size} pixels in height and in width, got {size}"
        )
    if whole and any(side % patch_size for side in size):
        raise ValueError(
            f"image_size must be a multiple of {patch_size} (patch_size, or a ResNet's stride) in "
            f"height and in width, got {quoted(size)}"
        )
    patches = math.prod(side // patch_size for side in size)
    if max(size) > LARGEST_IMAGE or patches > MOST_PATCHES:
        raise ValueError(
            f"image_size must be at most {LARGEST_IMAGE:,} pixels in height and in width, and at "
            f"most {MOST_PATCHES:,} patches, got {quoted(size)}, which is {quoted(patches)} patches"
        )
    return size


def require_multiple(name: str, value: int, divisor_name: str, divisor: int) -> None:
    if value % divisor:
        raise ValueError(f"{name} must be a multiple of {divisor} ({divisor_name}), got {value}")


def require_fractions(**fractions: float) -> None:
    """Raise a ValueError unless every fraction is at least 0 and below 1, as a dropout rate is."""
    for name, fraction in fractions.items():
        if not isinstance(fraction, Real) or not 0 <= fraction < 1:
            raise ValueError(f"{name} must be in [0, 1), got {quoted(fraction)}")


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {quoted(value)}")


def _require_number(name: str, value: float, largest: float) -> None:
    # The comparison is False for nan, which is refused as well.
    if not isinstance(value, Real) or isinstance(value, bool) or not abs(value) <= largest:
        raise ValueError(
            f"{name} must be a number from {-largest:,} to {largest:,}, got {quoted(value)}"
        )


def _is_whole(size: Any) -> bool:
    return isinstance(size, Integral) and not isinstance(size, bool)
