"""The inputs of a NaFlex tower: a batch of patches with a mask, or images of one size."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.data.patches import MASK, PIXELS, SHAPES, patches_of
from fastclip.models.parts.grid_resize import fixed_sizes

NAMES = (PIXELS, MASK, SHAPES)


class Patches(NamedTuple):
    """A checked batch of patches, in the form in which the tower computes with it.

    Attributes:
        values: (B, S, patch_size^2 * 3), 0 where no patch is read.
        grids: rows and columns of each image, or one pair for all images.
        is_read: (B, S) bool, True where a patch is read; None where all patches are read.
    """

    values: Tensor
    grids: list[tuple[int, int]]
    is_read: Tensor | None

    @property
    def attn_mask(self) -> Tensor | None:
        """The mask for attention: (B, 1, 1, S), True where a patch is read; None to read all."""
        return None if self.is_read is None else self.is_read[:, None, None]

    def without_padding(self, tokens: Tensor) -> Tensor:
        """Return the (B, S, width) tokens, set to 0 where no patch is read."""
        return tokens if self.is_read is None else tokens.masked_fill(~self.is_read[..., None], 0)

    def places(self) -> Tensor:
        """Return the (B, S, 2) int64 row and column of each patch, -1 where no patch is read."""
        device = self.values.device
        number = torch.arange(self.values.shape[1], device=device)
        columns = torch.tensor([columns for _, columns in self.grids], device=device)[:, None]
        places = torch.stack((number // columns, number % columns), -1)
        return places if self.is_read is None else places.masked_fill(~self.is_read[..., None], -1)


def of_images(images: Tensor, patch_size: int) -> Patches:
    """Cut (B, 3, H, W) images of one size into patches, all of which are read."""
    height, width = fixed_sizes(images.shape[-2:])
    grid = (height // patch_size, width // patch_size)
    return Patches(patches_of(images, patch_size), [grid], None)


def of_batch(batch: Mapping[str, Tensor], num_values: int) -> Patches:
    """Check a batch of patches, in the form that `fastclip/data/patches.py` describes.

    Args:
        batch: the batch's tensors by name.
        num_values: the number of values in a patch, patch_size^2 * 3.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape, an image has no patch or more
            than the batch has places, or the mask reads padding or no patch of an image.
        TypeError: `pixel_values` are not floating-point, or `spatial_shapes` are not integers.
    """
    names = set(batch)
    if unknown := sorted(map(str, names - set(NAMES))):
        raise ValueError(
            f"images must be a batch of {', '.join(NAMES)}, got also {', '.join(unknown)}"
        )
    if missing := [name for name in (PIXELS, SHAPES) if name not in names]:
        raise ValueError(
            f"images must be a batch with {PIXELS} and {SHAPES}, got a batch without "
            f"{' and '.join(missing)}"
        )
    values, shapes, mask = batch[PIXELS], batch[SHAPES], batch.get(MASK)
    if values.ndim != 3 or values.shape[-1] != num_values:
        raise ValueError(f"{PIXELS} must be (B, S, {num_values}), got {tuple(values.shape)}")
    if not values.is_floating_point():
        raise TypeError(
            f"{PIXELS} must be floating-point, got {values.dtype}: standardize the pixels first"
        )
    B, S = values.shape[:2]
    if shapes.shape != (B, 2):
        raise ValueError(f"{SHAPES} must be ({B}, 2), got {tuple(shapes.shape)}")
    if shapes.is_floating_point() or shapes.dtype == torch.bool:
        raise TypeError(f"{SHAPES} must be integers, got {shapes.dtype}")
    if mask is not None and mask.shape != (B, S):
        raise ValueError(f"{MASK} must be ({B}, {S}), got {tuple(mask.shape)}")
    grids = [(rows, columns) for rows, columns in shapes.tolist()]
    for grid in grids:
        if min(grid) < 1 or grid[0] * grid[1] > S:
            raise ValueError(
                f"{SHAPES} must give each image from 1 to {S} patches, as the batch has places, "
                f"got {grid}"
            )
    lengths = torch.tensor([rows * columns for rows, columns in grids], device=values.device)
    has_patch = torch.arange(S, device=values.device) < lengths[:, None]
    if mask is None:
        return _read(values, grids, has_patch)
    is_read = mask.to(values.device) != 0
    reads_padding, reads_nothing = torch.stack(
        [(is_read & ~has_patch).any(), ~is_read.any(1).all()]
    ).tolist()
    if reads_padding or reads_nothing:
        wrong = "padding after an image's patches" if reads_padding else "no patch of an image"
        raise ValueError(f"{MASK} must agree with {SHAPES}, but it reads {wrong}")
    return _read(values, grids, is_read)


def _read(values: Tensor, grids: list[tuple[int, int]], is_read: Tensor) -> Patches:
    # Values that are not read may be nan, and nan times a weight of 0 is nan.
    return Patches(values.masked_fill(~is_read[..., None], 0), grids, is_read)
