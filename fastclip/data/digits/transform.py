"""Turns an image file into the pixels that the model of digits takes."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastclip.data.digits.grids import IMAGE_SIZE
from fastclip.data.images import load_image


def to_grid(source: Any) -> Tensor:
    """Return (1, 16, 24) uint8: bright digits on black, two rows of three cells.

    Args:
        source: a PIL image, a path, the bytes of a file or an open file. Colours become grey, and
            an image of another size is stretched to this one.

    Raises:
        ImageError, OSError: see `load_image`.
    """
    height, width = IMAGE_SIZE
    image = source if isinstance(source, Image.Image) else load_image(source)
    grey = image.convert("L")
    if grey.size != (width, height):
        grey = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=None)
    return torch.from_numpy(np.array(grey))[None]
