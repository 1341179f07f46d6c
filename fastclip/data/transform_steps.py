"""The steps of a transform, in order, as listed in `preprocess.transforms`.

Every step is called with the result of the step before it. Names and attributes are torchvision's
(`Resize.size`, `Normalize.mean`), so that code that takes a transform of open_clip or OpenAI apart
also works here: it may read a size, slice the list, or insert a step of its own.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastclip.data.augment import RATIO, AugmentationCfg, RandomResizedCrop, color_steps, draw_crop
from fastclip.data.images import MAX_PIXELS, load_image, to_rgb
from fastclip.data.patches import patched_size
from fastclip.data.pixels import per_channel
from fastclip.data.resize import (
    center_crop,
    center_crop_or_pad,
    cover,
    fit,
    resize,
    resize_shorter_side,
)

AnyImage = Image.Image | str | os.PathLike | bytes | BinaryIO
Step = Callable[[Any], Any]


@dataclass(frozen=True)
class Open:
    """Read the image from a path, bytes or an open file; pass a PIL image on.

    Images with a palette or 16-bit values become RGB, because these values must not be
    interpolated.
    """

    def __call__(self, source: AnyImage) -> Image.Image:
        image = source if isinstance(source, Image.Image) else load_image(source)
        return to_rgb(image) if image.mode.startswith(("P", "I")) else image


@dataclass(frozen=True)
class OpenReduced(Open):
    """`Open`, but decode a JPEG at a reduced size with at least `least_side` pixels per side.

    The size is a half, a quarter or an eighth, which is faster to decode than all pixels.
    """

    least_side: int

    def __call__(self, source: AnyImage) -> Image.Image:
        is_open = isinstance(source, Image.Image)
        return super().__call__(
            source if is_open else load_image(source, MAX_PIXELS, self.least_side)
        )


@dataclass(frozen=True)
class Resize:
    """Resize the shorter side to `size` pixels or, if `size` is (height, width), both sides."""

    size: int | tuple[int, int]
    interpolation: Image.Resampling = Image.Resampling.BICUBIC

    def __call__(self, source: AnyImage) -> Image.Image:
        image = Open()(source)
        if isinstance(self.size, int):
            return resize_shorter_side(image, self.size, self.interpolation)
        return resize(image, self.size, self.interpolation)


@dataclass(frozen=True)
class ResizeRGB(Resize):
    """`Resize` after converting the image to RGB, as transformers' processors do."""

    def __call__(self, source: AnyImage) -> Image.Image:
        return super().__call__(to_rgb(Open()(source)))


@dataclass(frozen=True)
class ResizeKeepRatio:
    """Resize so that the image covers `size` (height, width) or, if `longest`, fits into it."""

    size: tuple[int, int]
    interpolation: Image.Resampling
    longest: bool

    def __call__(self, source: AnyImage) -> Image.Image:
        return (fit if self.longest else cover)(Open()(source), self.size, self.interpolation)


@dataclass(frozen=True)
class ResizeToPatches:
    """Convert to RGB and resize at the image's aspect ratio to whole patches; see `patches.py`."""

    patch_size: int
    max_num_patches: int
    interpolation: Image.Resampling

    def __call__(self, source: AnyImage) -> Image.Image:
        image = to_rgb(Open()(source))
        size = patched_size(image.height, image.width, self.patch_size, self.max_num_patches)
        return resize(image, size, self.interpolation)


@dataclass(frozen=True)
class CenterCrop:
    """Cut out the centre of `size` (height, width); `round_down` rounds its corner down."""

    size: tuple[int, int]
    round_down: bool = False

    def __call__(self, image: Image.Image) -> Image.Image:
        return center_crop(image, self.size, self.round_down)


@dataclass(frozen=True)
class CenterCropOrPad:
    """Cut out the centre of `size` (height, width); fill what is missing with the value `fill`."""

    size: tuple[int, int]
    fill: int

    def __call__(self, image: Image.Image) -> Image.Image:
        return center_crop_or_pad(image, self.size, self.fill)


@dataclass(frozen=True)
class RandomCrop(RandomResizedCrop):
    """`RandomResizedCrop` for any image that `Open` accepts."""

    def __call__(self, source: AnyImage) -> Image.Image:
        return super().__call__(Open()(source))


@dataclass(frozen=True)
class RandomCropToPatches:
    """Crop a random part of any image that `Open` accepts, and resize it to whole patches.

    With a `ratio` of None, the crop has the aspect ratio of the image.
    """

    patch_size: int
    max_num_patches: int
    scale: tuple[float, float]
    ratio: tuple[float, float] | None

    def __call__(self, source: AnyImage) -> Image.Image:
        image = Open()(source)
        own = image.width / image.height
        box = draw_crop(image.width, image.height, self.scale, self.ratio or (own, own))
        crop = image.crop(box)
        size = patched_size(crop.height, crop.width, self.patch_size, self.max_num_patches)
        return resize(crop, size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class ConvertToRGB:
    """Convert an image of any mode to RGB."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image if image.mode == "RGB" else to_rgb(image)


@dataclass(frozen=True)
class ToPixels:
    """Convert an RGB image to (3, H, W) uint8."""

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


@dataclass(frozen=True)
class ToTensor:
    """Convert an RGB image to (3, H, W) float32 in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        return ToPixels()(image).to(torch.float32).div_(255)


@dataclass(frozen=True)
class Normalize:
    """Subtract `mean` from (3, H, W) floating-point values and divide by `std`, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, values: Tensor) -> Tensor:
        mean, std = per_channel("mean", self.mean, values), per_channel("std", self.std, values)
        return (values - mean).div_(std)


def evaluation_steps(
    size: int | tuple[int, int],
    resize_mode: str,
    interpolation: str,
    fill_color: int,
    shortest_edge: int | None = None,
    patches: tuple[int, int] | None = None,
) -> list[Step]:
    """Return the steps from an image to an RGB image of `size`, or of `patches`."""
    height, width = size if isinstance(size, tuple) else (size, size)
    bilinear = interpolation == "bilinear"
    resample = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
    steps: list[Step]
    if patches is not None:
        return [ResizeToPatches(*patches, resample)]
    if resize_mode == "longest":
        steps = [
            ResizeKeepRatio((height, width), resample, longest=True),
            CenterCropOrPad((height, width), fill_color),
        ]
    elif resize_mode == "squash":
        steps = [Resize((height, width), resample)]
    elif shortest_edge is not None:
        crop = CenterCrop((height, width), round_down=True)
        steps = [ResizeRGB(shortest_edge, resample), crop]
    elif height == width:
        steps = [Resize(height, resample), CenterCrop((height, width))]
    else:
        # Always bicubic, as in open_clip.
        bicubic = ResizeKeepRatio((height, width), Image.Resampling.BICUBIC, longest=False)
        steps = [bicubic, CenterCrop((height, width))]
    return [*steps, ConvertToRGB()]


def training_steps(
    size: tuple[int, int], cfg: AugmentationCfg, patches: tuple[int, int] | None = None
) -> list[Step]:
    """Return the steps from an image to an RGB image that is a random view of it.

    Args:
        size: height and width of the view.
        patches: the size of a patch and the largest number of patches. If given, a view has the
            aspect ratio of its crop, and `size` is not used.
    """
    crop: Step = RandomCrop(size, cfg.scale, cfg.ratio or RATIO)
    if patches is not None:
        crop = RandomCropToPatches(*patches, cfg.scale, cfg.ratio)
    return [crop, ConvertToRGB(), *color_steps(cfg)]


def smallest_side(cfg: AugmentationCfg) -> float:
    """Return the smallest side of a crop of a square image as a fraction of its side, in (0, 1]."""
    low, high = cfg.ratio or RATIO
    return math.sqrt(cfg.scale[0] * min(low, 1 / high, 1.0))


def tensor_steps(
    mean: tuple[float, float, float], std: tuple[float, float, float], output: str
) -> list[Step]:
    """Return the steps from an RGB image to the tensor that a transform returns."""
    return [ToPixels()] if output == "uint8" else [ToTensor(), Normalize(mean, std)]


def listed(name: str, steps: list[Step]) -> str:
    """Return a text with a line per step."""
    return "\n".join([f"{name}(", *(f"    {step!r}" for step in steps), ")"])
