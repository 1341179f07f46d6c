"""Checks the features and the scale of a loss, by name, before anything is computed."""

import torch
from torch import Tensor

from fastclip.ops import validation


def checked_features(
    same_length: dict[str, Tensor], /, **others: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Return the features in one dtype; under autocast they may be given in several.

    Args:
        same_length: maps names to features (B, D), all with one B.
        others: features (K, D) with any K, or None.

    Raises:
        TypeError, ValueError: as `fastclip.clip_loss`, with the argument's name.
    """
    named = same_length | {name: x for name, x in others.items() if x is not None}
    for name, features in named.items():
        validation.check_matrix(name, features)
    (first, one), *_ = named.items()
    promoted = dict(named)
    if torch.is_autocast_enabled(one.device.type):
        dtype = one.dtype
        for features in named.values():
            dtype = torch.promote_types(dtype, features.dtype)
        promoted = {name: x.to(dtype) for name, x in named.items()}
    for name, features in promoted.items():
        validation.check_alike(
            (first, promoted[first]), (name, features), same_length=name in same_length
        )
    return tuple(promoted.get(name) for name in (*same_length, *others))


def chosen_scale(
    temperature: float | Tensor | None,
    logit_scale: float | Tensor | None,
    default: float,
    features: Tensor,
) -> float | Tensor:
    """Return the factor of the scores, a number or a tensor, by whichever name it was given.

    Raises:
        TypeError, ValueError: both are given, or the one given is neither a positive finite number
            nor a tensor of one element on the features' device.
    """
    if temperature is not None and logit_scale is not None:
        raise ValueError(
            "temperature and logit_scale are one number by two names "
            "(logit_scale = 1 / temperature): only one of them can be given"
        )
    if logit_scale is not None:
        return positive_scale("logit_scale", logit_scale, features)
    temperature = positive_scale(
        "temperature", default if temperature is None else temperature, features
    )
    # As a tensor of the scale's dtype: 1 / temperature of a 16-bit one would be rounded.
    if isinstance(temperature, Tensor):
        temperature = validation.scalar_tensor("temperature", temperature, features)
    return 1.0 / temperature


def positive_number(name: str, value: float) -> float:
    """Return `value`; raise unless it is a Python number that is finite and above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be finite and > 0, got {value}")
    return value


def positive_scale(name: str, value: float | Tensor, features: Tensor) -> float | Tensor:
    """Return `value`; raise unless it is a tensor or a finite number above 0."""
    value = validation.scalar(name, value, features.device)
    if not isinstance(value, Tensor) and value <= 0:
        raise ValueError(f"{name} must be > 0, got {value}")
    return value


def check_labels(
    name: str, labels: Tensor, features: Tensor, dtype: torch.dtype = torch.int64
) -> None:
    """Raise if `labels` is not (B,) of this dtype, on the device of `features` (B, D)."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(labels).__name__}")
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name} must have shape ({len(features)},), one per row of the features, "
            f"got {tuple(labels.shape)}"
        )
    if labels.dtype != dtype:
        wanted = str(dtype).removeprefix("torch.")
        raise ValueError(f"{name} must be {wanted}, got {labels.dtype}")
    if labels.device != features.device:
        raise ValueError(
            f"{name} must be on the features' device {features.device}, got {labels.device}"
        )
