"""From stored pixels to what an encoder takes: uint8 in [0, 255] to standardised float32."""

import torch
from torch import Tensor

# Mean and deviation of the digits' pixels, in units of the full range.
DIGIT_MEAN, DIGIT_STD = 0.305, 0.376


def standardize(images: Tensor, mean: float = DIGIT_MEAN, std: float = DIGIT_STD) -> Tensor:
    """Return (image / 255 - mean) / std as float32, same shape.

    Raises:
        TypeError: `images` is not uint8: standardising twice would go unnoticed.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    return (images.float() / 255 - mean) / std
