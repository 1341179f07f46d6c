"""The images of a batch: one tensor if they all have one size, otherwise a list of tensors.

Every tensor that is sent between processes is a piece of shared memory with an open file of its
own, and a process may have only few open files. A list of images is therefore sent as one tensor,
together with the shapes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.data.patches import stacked


class Packed(NamedTuple):
    """Images of different sizes, one after the other in one tensor.

    Attributes:
        values: (N,), the values of all images.
        shapes: (C, H_i, W_i) of each image.
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
    """Return images in the form in which they are sent to another process.

    A tensor is returned as it is; several images are packed into one tensor.

    Example:
        >>> packed([torch.zeros(3, 2, 2), torch.zeros(3, 1, 4)]).values.shape
        torch.Size([24])
    """
    if isinstance(images, Tensor):
        return images
    values = torch.cat([image.reshape(-1) for image in images])
    return Packed(values, [tuple(image.shape) for image in images])


def unpacked(images: Tensor | Packed | None) -> Tensor | list[Tensor] | None:
    """Undo `packed`; None stays None."""
    return images.images() if isinstance(images, Packed) else images


def together(images: Sequence[Tensor], any_size: bool) -> Tensor | list[Tensor]:
    """Return (C, H_i, W_i) images as one tensor if they have one size, otherwise as a list.

    Raises:
        ValueError: their sizes differ, and `any_size` is False.
    """
    found = stacked(images)
    if not any_size and not isinstance(found, Tensor):
        raise ValueError(
            f"transform must return one shape, got {sorted({tuple(i.shape) for i in images})}; "
            "if images shall keep different sizes, as NaFlex models allow, and the transform is "
            "wrapped in a function of your own, give PairLoader any_size=True"
        )
    return found


def pinned(images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Return copies of images in pinned memory; a list of images shares one piece of it."""
    return unpacked(packed(images).pin_memory())
