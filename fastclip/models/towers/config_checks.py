"""Whether the values of a configuration are of their types and within their bounds.

A configuration may come from a stranger's file: it is looked at whole before a model is built.
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
    """Raise unless all are whole numbers from 1 to `largest`."""
    for name, size in sizes.items():
        if not _is_whole(size) or not 1 <= size <= largest:
            raise ValueError(
                f"{name} must be at least 1 and at most {largest:,}, got {quoted(size)}"
            )


def require_token(**ids: int) -> None:
    """Raise unless all may be ids of tokens."""
    for name, token in ids.items():
        if not _is_whole(token) or not 0 <= token < LARGEST_VOCABULARY:
            raise ValueError(f"{name} must be the id of a token, got {quoted(token)}")


def require_flags(**flags: bool | None) -> None:
    """Raise unless all are true or false; None and 0 are false, as in open_clip."""
    for name, flag in flags.items():
        if not isinstance(flag, (bool, int, type(None))) or flag not in (0, 1, None):
            raise ValueError(f"{name} must be true or false, got {quoted(flag)}")


def require_blocks(width: int, mlp_ratio: float, norm_eps: float) -> None:
    """Raise unless a transformer's blocks of these settings have an MLP and numbers."""
    _require_number("mlp_ratio", mlp_ratio, LARGEST_MLP_RATIO)
    if int(width * mlp_ratio) < 1:
        raise ValueError(f"mlp_ratio must leave an MLP of width 1 at least, got {mlp_ratio}")
    _require_number("norm_eps", norm_eps, 1)
    if norm_eps < 0:
        raise ValueError(f"norm_eps must not be negative, got {norm_eps}")


def require_exponents(**exponents: float) -> None:
    """Raise unless all are moderate numbers, of either sign."""
    for name, exponent in exponents.items():
        _require_number(name, exponent, LARGEST_EXPONENT)


def require_patches(image_size: Any, patch_size: int, whole: bool = True) -> tuple[int, int]:
    """Height and width of images; raise unless they are cut into some patches, and not too many.

    Args:
        whole: there must be no pixels beyond the last whole patch.
    """
    size = (image_size, image_size) if _is_whole(image_size) else image_size
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(map(_is_whole, size)):
        raise ValueError(f"image_size must be one number of pixels or two, got {quoted(size)}")
    size = tuple(size)
    if min(size) < patch_size:
        raise ValueError(f"image_size must be at least {patch_size} both ways, got {size}")
    if whole and any(side % patch_size for side in size):
        raise ValueError(f"image_size {quoted(size)} is not a multiple of patch_size {patch_size}")
    patches = math.prod(side // patch_size for side in size)
    if max(size) > LARGEST_IMAGE or patches > MOST_PATCHES:
        raise ValueError(
            f"image_size must be at most {LARGEST_IMAGE:,} pixels, and {MOST_PATCHES:,} patches, "
            f"got {quoted(size)} and {quoted(patches)}"
        )
    return size


def require_multiple(name: str, value: int, divisor_name: str, divisor: int) -> None:
    if value % divisor:
        raise ValueError(f"{name} {value} is not a multiple of {divisor_name} {divisor}")


def require_patch_dropout(fraction: float) -> None:
    require_fractions(patch_dropout=fraction)


def require_fractions(**fractions: float) -> None:
    """Raise unless all are numbers from 0 to below 1."""
    for name, fraction in fractions.items():
        if not isinstance(fraction, Real) or not 0 <= fraction < 1:
            raise ValueError(f"{name} must be in [0, 1), got {quoted(fraction)}")


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {quoted(value)}")


def _require_number(name: str, value: float, largest: float) -> None:
    # nan is not within any bounds.
    if not isinstance(value, Real) or isinstance(value, bool) or not abs(value) <= largest:
        raise ValueError(f"{name} must be a number of at most {largest:,}, got {quoted(value)}")


def _is_whole(size: Any) -> bool:
    return isinstance(size, Integral) and not isinstance(size, bool)
