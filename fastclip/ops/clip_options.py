"""The options of the CLIP loss: checked once, here, and passed on as one object.

`fastclip/ops/clip_terms.py` defines their mathematics.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops import validation
from fastclip.ops.pair_ids import PairIds
from fastclip.rectangle import Sides

DIRECTIONS = ("image_to_text", "text_to_image")
_HALVES = (0.5, 0.5)


class ClipOptions(NamedTuple):
    """The options of a CLIP loss besides its features and its scale.

    Args:
        label_smoothing: in [0, 1).
        margin: subtracted from the cosine of each pair.
        direction_weights: the weights of the losses from images to texts and from texts to images.
        weights: the weights of the pairs, (B,) in the features' compute dtype, or None.
        extra_text_features: (H, D), of the features' dtype and device, or None.
        ids: which images and texts of the batch are the same, or None.
    """

    label_smoothing: float = 0.0
    margin: float = 0.0
    direction_weights: tuple[float, float] = _HALVES
    weights: Tensor | None = None
    extra_text_features: Tensor | None = None
    ids: PairIds | None = None

    @property
    def are_default(self) -> bool:
        is_weighted = self.weights is not None or self.direction_weights != _HALVES
        shifts = self.label_smoothing != 0.0 or self.margin != 0.0
        has_more = self.extra_text_features is not None or self.ids is not None
        return not (is_weighted or shifts or has_more)

    @property
    def leave_out(self) -> bool:
        """Whether images and texts with the same id are left out of the negatives."""
        return self.ids is not None and not self.ids.are_positives

    @property
    def add_positives(self) -> bool:
        """Whether images and texts with the same id are positives."""
        return self.ids is not None and self.ids.are_positives

    @property
    def sides(self) -> Sides:
        """The sides that have a loss, in a rectangle with images as rows."""
        return Sides(*(weight > 0 for weight in self.direction_weights))

    @property
    def num_extra(self) -> int:
        """H, or 0 without extra texts."""
        return 0 if self.extra_text_features is None else len(self.extra_text_features)


NO_OPTIONS = ClipOptions()


def options_of_numbers(
    label_smoothing: float, margin: float, directions: Collection[str] | Mapping[str, float]
) -> ClipOptions:
    """Return the options that are numbers; `options_of_batch` adds the tensors of a batch.

    Raises:
        TypeError: a number or a direction has the wrong type.
        ValueError: `label_smoothing` is not in [0, 1), the margin is not finite, a direction is
            unknown or named twice, no direction has a weight above 0, or a weight is negative or
            not finite.
    """
    if directions is DIRECTIONS and _is_zero(label_smoothing) and _is_zero(margin):
        return NO_OPTIONS
    label_smoothing = _number("label_smoothing", label_smoothing)
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    margin = _number("margin", margin)
    return ClipOptions(label_smoothing, margin, _direction_weights(directions))


def options_of_batch(
    options: ClipOptions,
    image_features: Tensor,
    weights: Tensor | None,
    extra_text_features: Tensor | None,
    ids: PairIds | None = None,
) -> ClipOptions:
    """Return `options` with the options that are tensors of a batch.

    Args:
        image_features: (B, D), valid.
        ids: valid.

    Raises:
        TypeError: an option is not a tensor.
        ValueError: an option's shape, dtype or device does not fit the images; weights on the CPU
            are negative or not finite; no direction sees the extra texts; or there is a margin
            with `ids` as positives, for which a margin is not defined.
    """
    if ids is not None:
        if ids.are_positives and options.margin != 0.0:
            raise ValueError(
                "margin must be 0 with positives='ids', where a margin has no meaning, got "
                f"{options.margin}"
            )
        options = options._replace(ids=ids)
    if weights is not None:
        options = options._replace(weights=_checked_weights(weights, image_features))
    if extra_text_features is not None:
        validation.check_extra_text_features(extra_text_features, image_features)
        if not options.sides.rows:
            raise ValueError(
                "extra_text_features are negatives of images: directions must have "
                "'image_to_text' with a weight above 0"
            )
        options = options._replace(extra_text_features=extra_text_features)
    return options


def _is_zero(value: Any) -> bool:
    return type(value) is float and value == 0.0


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor):
        raise TypeError(f"{name} must be a number, got a torch.Tensor")
    return validation.scalar(name, value, torch.device("cpu"))


def _direction_weights(directions: Collection[str] | Mapping[str, float]) -> tuple[float, float]:
    if isinstance(directions, str) or not isinstance(directions, Collection):
        kind = type(directions).__name__
        raise TypeError(
            f"directions must be a list of names from {DIRECTIONS}, or a mapping from these names "
            f"to weights, got {kind}"
        )
    names = list(directions)
    unknown = [name for name in names if name not in DIRECTIONS]
    if unknown:
        raise ValueError(f"directions must be names from {DIRECTIONS}, got {unknown[0]!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"directions must name each direction at most once, got {names}")
    if not isinstance(directions, Mapping):
        directions = dict.fromkeys(names, 1.0 / max(1, len(names)))
    weights = [_number(f"the weight of {name}", x) for name, x in directions.items()]
    if any(weight < 0 for weight in weights) or not any(weights):
        raise ValueError(
            "directions must have at least one weight above 0 and no negative weight, got "
            f"{directions}"
        )
    found = dict(zip(names, weights, strict=True))
    return tuple(float(found.get(name, 0.0)) for name in DIRECTIONS)


def _checked_weights(weights: Tensor, image_features: Tensor) -> Tensor:
    B, device = image_features.shape[0], image_features.device
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights must be a torch.Tensor, got {type(weights).__name__}")
    if weights.shape != (B,) or not validation.is_dense(weights):
        raise ValueError(
            f"weights must be a dense tensor of shape ({B},), one number for each pair, "
            f"got {tuple(weights.shape)}"
        )
    if weights.is_complex() or weights.dtype == torch.bool:
        raise ValueError(f"weights must be real numbers, got {weights.dtype}")
    if weights.device != device:
        raise ValueError(f"weights must be on the features' device {device}, got {weights.device}")
    weights = weights.to(compute_dtype(image_features.dtype))
    is_right = (weights >= 0) & (weights < float("inf"))
    if _may_be_looked_at(weights):
        if not is_right.all():
            wrong = weights.detach()[~is_right][0].item()
            raise ValueError(f"weights must be finite and at least 0, got {wrong}")
        return weights
    # Reading the values would wait for the device: a wrong weight makes the loss nan instead.
    return torch.where(is_right, weights, float("nan"))


def _may_be_looked_at(values: Tensor) -> bool:
    """Return whether values are in the CPU's memory, and neither traced nor mapped by vmap."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    is_plain = type(values) in (Tensor, torch.nn.Parameter)
    return is_plain and values.device.type == "cpu" and torch._C._len_torch_dispatch_stack() == 0
