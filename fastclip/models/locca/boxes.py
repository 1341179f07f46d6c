"""Boxes as numbers in [0, 1], and as four tokens, one per coordinate.

A box is (x0, y0, x1, y1): its left, upper, right and lower edge as fractions of the image's width
and height, x0 <= x1 and y0 <= y1. A coordinate becomes the number of one of `bins` intervals of
equal length. It is restored as the middle of its interval, with an error of at most 1 / (2 * bins).
"""

import torch
from torch import Tensor

from fastclip.models.towers.config_checks import require_sizes

COORDINATES = 4


def require_boxes(boxes: Tensor) -> None:
    """Raise unless `boxes` are (..., 4) floating-point boxes in [0, 1], none of them reversed.

    Raises:
        TypeError: `boxes` is not a floating-point tensor.
        ValueError: `boxes` has another shape, or a box that is outside the image, reversed or nan.
    """
    if not isinstance(boxes, Tensor) or not boxes.is_floating_point():
        kind = boxes.dtype if isinstance(boxes, Tensor) else type(boxes).__name__
        raise TypeError(f"boxes must be a floating-point tensor, got {kind}")
    if boxes.ndim < 1 or boxes.shape[-1] != COORDINATES:
        raise ValueError(f"boxes must be (..., 4), got {tuple(boxes.shape)}")
    is_inside = ((boxes >= 0) & (boxes <= 1)).all(-1)  # nan is not
    is_ordered = (boxes[..., :2] <= boxes[..., 2:]).all(-1)
    if not (is_inside & is_ordered).all():
        bad = boxes[~(is_inside & is_ordered)][0].tolist()
        raise ValueError(
            "boxes must be (x0, y0, x1, y1) with 0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1, got "
            f"{bad}"
        )


def quantize_boxes(boxes: Tensor, bins: int) -> Tensor:
    """Return the (..., 4) int64 bins, in [0, bins), of the coordinates of (..., 4) boxes.

    Raises:
        TypeError, ValueError: see `require_boxes`; or `bins` is below 1.

    Example:
        >>> quantize_boxes(torch.tensor([0.0, 0.25, 0.5, 1.0]), 100)
        tensor([ 0, 25, 50, 99])
    """
    require_sizes(bins=bins)
    require_boxes(boxes)
    # In float64 the product of any narrower number with the number of bins is exact.
    return (boxes.double() * bins).floor().long().clamp(max=bins - 1)


def dequantize_boxes(quantized: Tensor, bins: int) -> Tensor:
    """Return the (..., 4) float32 boxes whose coordinates are the middles of (..., 4) bins.

    Raises:
        ValueError: `quantized` is not (..., 4), or a number in it is not in [0, bins).

    Example:
        >>> dequantize_boxes(torch.tensor([0, 25, 50, 99]), 100)
        tensor([0.0050, 0.2550, 0.5050, 0.9950])
    """
    require_sizes(bins=bins)
    if quantized.ndim < 1 or quantized.shape[-1] != COORDINATES:
        raise ValueError(f"quantized must be (..., 4), got {tuple(quantized.shape)}")
    is_bin = (quantized >= 0) & (quantized < bins)
    if not is_bin.all():
        raise ValueError(
            f"quantized must be bins in [0, {bins}), got {quantized[~is_bin][0].item()}"
        )
    return ((quantized.double() + 0.5) / bins).float()


def iou_of_pairs(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the (...) intersection over union of each of (..., 4) boxes with its counterpart.

    The result is 0 for boxes that do not overlap, and for two different boxes without any area.

    Raises:
        TypeError, ValueError: see `require_boxes`; or the shapes differ.

    Example:
        >>> iou_of_pairs(torch.tensor([[0.0, 0.0, 0.5, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
        tensor([0.5000])
    """
    if boxes.shape != others.shape:
        raise ValueError(
            f"boxes and others must have one shape, got {tuple(boxes.shape)} and "
            f"{tuple(others.shape)}"
        )
    require_boxes(boxes)
    require_boxes(others)
    upper_left = torch.maximum(boxes[..., :2], others[..., :2])
    lower_right = torch.minimum(boxes[..., 2:], others[..., 2:])
    common = (lower_right - upper_left).clamp(min=0).prod(-1)
    union = _area(boxes) + _area(others) - common
    is_same = (boxes == others).all(-1)
    return torch.where(union > 0, common / union, is_same.to(common.dtype))


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)
