"""Images as sequences of patches: images of different sizes in one padded batch.

SigLIP 2's NaFlex models take an image at its own aspect ratio, cut into square patches. A batch of
such images is a dict with the names of transformers' `Siglip2ImageProcessor`:

    pixel_values          (B, S, patch_size * patch_size * C): the patches of an image row by row,
                          the pixels of a patch row by row, the channels of a pixel; padding is 0
    pixel_attention_mask  (B, S) bool: True for a patch, False for padding
    spatial_shapes        (B, 2) int64: rows and columns of each image's patches

Source: Tschannen et al. 2025 (SigLIP 2), arXiv:2502.14786, section 2.4; Siglip2ImageProcessor of
transformers 5.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastclip.data.limits import MOST_PATCHES
from fastclip.data.pixels import standardize
from fastclip.data.quoting import quoted

NAFLEX = "naflex"  # the `resize_mode` of images that keep different sizes
DEFAULT_PATCH_SIZE = 16
PatchBatch = dict[str, Tensor]
PIXELS, MASK, SHAPES = "pixel_values", "pixel_attention_mask", "spatial_shapes"

# Bounds and tolerance of the search for a scale, which finds the same number as transformers'.
LEAST_SCALE, LARGEST_SCALE, SCALE_TOLERANCE = 1e-6, 100.0, 1e-5


def patched_size(height: int, width: int, patch_size: int, max_num_patches: int) -> tuple[int, int]:
    """Return the height and width to which an image is resized before it is cut into patches.

    Both are multiples of `patch_size`. The image then has at most `max_num_patches` patches and,
    within that, is as large as possible at its aspect ratio; no side grows more than a hundredfold.
    The results equal those of transformers' `Siglip2ImageProcessor`.

    Args:
        height, width: size of the image in pixels.
        patch_size: side of a patch in pixels.
        max_num_patches: the most patches of the image, at least 1.

    Raises:
        ValueError: an argument is not positive.

    Example:
        >>> patched_size(480, 640, patch_size=16, max_num_patches=256)
        (224, 288)
    """
    sizes = dict(height=height, width=width, patch_size=patch_size, max_num_patches=max_num_patches)
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")

    def scaled(scale: float) -> tuple[int, int]:
        rows, columns = (max(1, math.ceil(side * scale / patch_size)) for side in (height, width))
        return rows, columns

    low, high = LEAST_SCALE, LARGEST_SCALE
    while high - low >= SCALE_TOLERANCE:
        middle = (low + high) / 2
        if math.prod(scaled(middle)) <= max_num_patches:
            low = middle
        else:
            high = middle
    rows, columns = scaled(low)
    return rows * patch_size, columns * patch_size


def patch_settings(
    size: tuple[int, int], patch_size: int | None, max_num_patches: int | None
) -> tuple[int, int]:
    """Return the size of a patch and the largest number of patches for settings with defaults.

    Args:
        size: height and width of an image with the largest number of patches, unless
            `max_num_patches` gives that number.
        patch_size: side of a patch in pixels; None for 16.
        max_num_patches: the largest number of patches; None for as many as `size` holds.

    Raises:
        ValueError: a number is out of its range.
    """
    side = DEFAULT_PATCH_SIZE if patch_size is None else patch_size
    if not isinstance(side, int) or not 0 < side <= min(size):
        raise ValueError(
            f"patch_size must be from 1 to the shorter side of size {size}, got {quoted(side)}"
        )
    held = math.prod(length // side for length in size)
    most = held if max_num_patches is None else max_num_patches
    if not isinstance(most, int) or not 0 < most <= MOST_PATCHES:
        raise ValueError(f"max_num_patches must be from 1 to {MOST_PATCHES:,}, got {quoted(most)}")
    return side, most


def num_patches_of(height: int, width: int, patch_size: int, max_num_patches: int) -> int:
    """Return how many patches an image has after `patched_size`: from 1 to `max_num_patches`.

    An image that is turned by 90 degrees has the same number, so that the size in a file's header
    is enough, whatever the EXIF orientation is.

    Example:
        >>> num_patches_of(480, 640, patch_size=16, max_num_patches=256)
        252
    """
    height, width = patched_size(height, width, patch_size, max_num_patches)
    return (height // patch_size) * (width // patch_size)


def patches_of(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches: (B, C, H, W) to (B, H * W / patch_size^2, patch_size^2 * C).

    Args:
        images: (B, C, H, W) of any dtype; H and W are multiples of `patch_size`.
    """
    C, H, W = images.shape[1:]
    # Not with unflatten: a trace for ONNX would fix the size of the batch.
    cut = images.reshape(-1, C, H // patch_size, patch_size, W // patch_size, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def collate_patches(
    images: Sequence[Tensor], patch_size: int = 16, num_patches: int | None = None
) -> PatchBatch:
    """Put images of different sizes into one padded batch.

    Args:
        images: (C, H_i, W_i) tensors of one dtype, as a transform with `resize_mode` "naflex"
            returns them; their sides are multiples of `patch_size`.
        num_patches: the length S to which every image is padded; None pads to the longest.

    Returns:
        A dict of `pixel_values` in the images' dtype, `pixel_attention_mask` and `spatial_shapes`;
        see the docstring of this module.

    Raises:
        ValueError: there are no images, a side is not a multiple of `patch_size`, they differ in
            dtype or channels, or one has more than `num_patches` patches.

    Example:
        >>> batch = collate_patches([transform(image) for image in images], patch_size=16)
        >>> features = model.encode_image(batch, normalize=True)
    """
    if not images:
        raise ValueError("images must be a sequence of at least one image, got none")
    for image in images:
        sides = tuple(image.shape[-2:])
        is_cut = image.ndim == 3 and all(side >= 1 and side % patch_size == 0 for side in sides)
        if not is_cut:
            raise ValueError(
                f"images must be (C, H, W) with sides that are multiples of patch_size = "
                f"{patch_size}, got {tuple(image.shape)}"
            )
        if image.dtype != images[0].dtype or len(image) != len(images[0]):
            raise ValueError(
                f"images must have one dtype and number of channels, got {len(images[0])} of "
                f"{images[0].dtype} and {len(image)} of {image.dtype}"
            )
    patches = [patches_of(image[None], patch_size)[0] for image in images]
    lengths = [len(each) for each in patches]
    length = max(lengths) if num_patches is None else num_patches
    if max(lengths) > length:
        raise ValueError(
            f"num_patches must be at least {max(lengths)} for these images, got {num_patches}"
        )
    values = patches[0].new_zeros(len(images), length, patches[0].shape[-1])
    for row, each in zip(values, patches, strict=True):
        row[: len(each)] = each
    device = values.device
    shapes = [[side // patch_size for side in image.shape[-2:]] for image in images]
    return {
        PIXELS: values,
        MASK: torch.arange(length, device=device) < torch.tensor(lengths, device=device)[:, None],
        SHAPES: torch.tensor(shapes, device=device),
    }


def standardize_patches(
    batch: PatchBatch, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> PatchBatch:
    """Standardise a batch of uint8 patches as `standardize` does images; the padding stays 0.

    Args:
        mean, std: one per channel, in units of the full range.

    Raises:
        TypeError, ValueError: see `standardize`.
    """
    by_channel = batch[PIXELS].unflatten(-1, (-1, len(mean))).transpose(-1, -2)[..., None]
    values = standardize(by_channel, mean, std, dtype)[..., 0].transpose(-1, -2).flatten(-2)
    return {**batch, PIXELS: values.masked_fill(~batch[MASK][..., None], 0)}


def stacked(images: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Return images of one size as a (B, C, H, W) tensor, and images of several sizes as a list."""
    if len({image.shape for image in images}) == 1:
        return torch.stack(list(images))
    return list(images)
