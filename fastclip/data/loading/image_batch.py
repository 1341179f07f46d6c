"""The images of a batch: one tensor where they have one size, else a list of them.

Between processes every tensor is a piece of shared memory with an open file of its own, of which a
process may have few. A list of images is therefore sent as one tensor, with their shapes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.data.patches import stacked


class Packed(NamedTuple):
    """Images of different sizes, one behind the other.

    Attributes:
        values: (N,) of all images.
        shapes: (C, H_i, W_i) of each.
    """

    values: Tensor
    shapes: list[tuple[int, ...]]

    def images(self) -> list[Tensor]:
        """Return the images, which share the memory of `values`."""
        parts = self.values.split([math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def pin_memory(self) -> "Packed":
        return self._replace(values=self.values.pin_memory())


def packed(images: Tensor | Sequence[Tensor]) -> Tensor | Packed:
    """Return what is sent to another process; a tensor is sent as it is.

    Example:
        >>> packed([torch.zeros(3, 2, 2), torch.zeros(3, 1, 4)]).values.shape
        torch.Size([24])
    """
    if isinstance(images, Tensor):
        return images
    values = torch.cat([image.reshape(-1) for image in images])
    return Packed(values, [tuple(image.shape) for image in images])


def unpacked(images: Tensor | Packed | None) -> Tensor | list[Tensor] | None:
    """Return what `packed` was given; None stays None."""
    return images.images() if isinstance(images, Packed) else images


def together(images: Sequence[Tensor], any_size: bool) -> Tensor | list[Tensor]:
    """Return (C, H_i, W_i) images as a batch has them; those of one size as one tensor.

    Raises:
        ValueError: their sizes differ, and `any_size` is False.
    """
    found = stacked(images)
    if not any_size and not isinstance(found, Tensor):
        raise ValueError(
            f"transform must return one shape, got {sorted({tuple(i.shape) for i in images})}; "
            "where images keep different sizes, as those of a NaFlex model do, and the transform "
            "is one inside a function of your own, give PairLoader any_size=True"
        )
    return found


def pinned(images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Return copies of images in pinned memory, those of different sizes in one piece of it."""
    return unpacked(packed(images).pin_memory())
