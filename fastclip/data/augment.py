"""The random steps of training images: a crop, jittered colours, conversion to grey.

Random numbers come from the same generators, in the same order, as in open_clip and torchvision:
torch's generator for positions and strengths, Python's for whether a step happens at all. With
equal seeds an image is bit for bit the one that open_clip trains on.
"""

import math
import random
from dataclasses import dataclass

import torch
from PIL import Image, ImageEnhance

RATIO = (3 / 4, 4 / 3)  # width over height of a crop
CROP_TRIALS = 10


@dataclass(frozen=True)
class AugmentationCfg:
    """The random changes to a training image, with open_clip's names and order.

    Attributes:
        scale: smallest and largest fraction of the image's area that a crop keeps.
        ratio: smallest and largest width over height of a crop; None is (3/4, 4/3). open_clip
            always uses (3/4, 4/3), whatever is set, unless it uses timm.
        color_jitter: strengths of brightness, contrast, saturation (factors of 1 - s to 1 + s,
            not below 0) and hue (shifts of up to s of the circle, s at most 0.5).
        re_prob, re_count, use_timm: settings of timm's transforms; not available here.
        color_jitter_prob: probability that colours are jittered; needed with `color_jitter`.
        gray_scale_prob: probability that the image loses its colours.

    Raises:
        ValueError: a value is out of its range, a setting of timm's transforms is set, or only one
            of `color_jitter` and `color_jitter_prob` is set.

    Example:
        >>> cfg = fastclip.AugmentationCfg(scale=(0.4, 1.0), gray_scale_prob=0.2)
        >>> transform = fastclip.image_transform(224, is_train=True, aug_cfg=cfg)
    """

    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] | None = None
    color_jitter: tuple[float, float, float, float] | None = None
    re_prob: float | None = None
    re_count: int | None = None
    use_timm: bool = False
    color_jitter_prob: float | None = None
    gray_scale_prob: float | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "ratio", "color_jitter"):  # lists, if they come from JSON
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._require(_is_range(self.scale) and self.scale[1] <= 1, "scale", "0 < low <= high <= 1")
        self._require(self.ratio is None or _is_range(self.ratio), "ratio", "0 < low <= high")
        for name in ("re_prob", "re_count", "use_timm"):
            self._require(not getattr(self, name), name, "unset, as it needs timm's transforms")
        for name in ("color_jitter_prob", "gray_scale_prob"):
            self._require(0 <= (getattr(self, name) or 0) <= 1, name, "in [0, 1]")
        strengths = self.color_jitter
        if strengths is not None:
            self._require(_is_jitter(strengths), "color_jitter", "4 strengths, the last up to 0.5")
            self._require(self.color_jitter_prob is not None, "color_jitter_prob", "set as well")
        self._require(
            strengths is not None or not self.color_jitter_prob, "color_jitter", "set as well"
        )

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a random part of an image and resize it, bicubically, to `size` (height, width)."""

    size: tuple[int, int]
    scale: tuple[float, float]
    ratio: tuple[float, float]
    interpolation: Image.Resampling = Image.Resampling.BICUBIC

    def __call__(self, image: Image.Image) -> Image.Image:
        box = draw_crop(image.width, image.height, self.scale, self.ratio)
        return image.crop(box).resize(self.size[::-1], self.interpolation)


@dataclass(frozen=True)
class ColorJitter:
    """Apply `jitter_colors` to an RGB image with probability `p`."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float

    def __call__(self, image: Image.Image) -> Image.Image:
        if random.random() >= self.p:
            return image
        return jitter_colors(image, self.brightness, self.contrast, self.saturation, self.hue)


@dataclass(frozen=True)
class RandomGrayscale:
    """Remove the colours of an RGB image with probability `p`."""

    p: float

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.convert("L").convert("RGB") if random.random() < self.p else image


def color_steps(cfg: AugmentationCfg) -> list[ColorJitter | RandomGrayscale]:
    """Return the steps that change the colours of an RGB crop, without steps that never happen."""
    steps: list[ColorJitter | RandomGrayscale] = []
    if cfg.color_jitter_prob:
        steps.append(ColorJitter(*cfg.color_jitter, cfg.color_jitter_prob))
    if cfg.gray_scale_prob:
        steps.append(RandomGrayscale(cfg.gray_scale_prob))
    return steps


def draw_crop(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Return the (left, top, right, bottom) of a random part of an image.

    The fraction of its area is uniform in `scale`, and the logarithm of its aspect ratio is uniform
    between the logarithms of `ratio`. If none of ten draws fits into the image, the part is the
    largest central one with an aspect ratio within `ratio`.

    Source: C. Szegedy et al. 2015, "Going Deeper with Convolutions", section 6.
    """
    log_low, log_high = torch.tensor(ratio, dtype=torch.float32, device="cpu").log().tolist()
    for _ in range(CROP_TRIALS):
        area = width * height * _uniform(*scale).item()
        aspect = _uniform(log_low, log_high).exp().item()
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = _integer_below(height - crop_height + 1)
            left = _integer_below(width - crop_width + 1)
            return left, top, left + crop_width, top + crop_height
    low, high = ratio
    crop_width, crop_height = width, height
    if width / height < low:
        crop_height = round(width / low)
    elif width / height > high:
        crop_width = round(height * high)
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def jitter_colors(
    image: Image.Image, brightness: float, contrast: float, saturation: float, hue: float
) -> Image.Image:
    """Change an RGB image by random factors of up to these strengths, in a random order.

    A strength of 0 leaves its property unchanged and draws no random number.
    """
    order = torch.randperm(4, device="cpu").tolist()
    factors = [
        _uniform(max(0.0, 1.0 - strength), 1.0 + strength).item() if strength else None
        for strength in (brightness, contrast, saturation)
    ]
    factors.append(_uniform(-hue, hue).item() if hue else None)
    steps = (_brighten, _raise_contrast, _saturate, _turn_hue)  # numbered as by torchvision
    for i in order:
        if factors[i] is not None:
            image = steps[i](image, factors[i])
    return image


def _brighten(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _raise_contrast(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _saturate(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


def _turn_hue(image: Image.Image, fraction: float) -> Image.Image:
    """Turn all hues by `fraction` of the circle, which is 256 steps around."""
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + int(fraction * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


# torchvision draws from torch's default generator on the CPU, one float32 or int64 at a time.
def _uniform(low: float, high: float) -> torch.Tensor:
    return torch.empty(1, dtype=torch.float32, device="cpu").uniform_(low, high)


def _integer_below(end: int) -> int:
    return torch.randint(0, end, (1,), device="cpu").item()


def _is_range(pair: object) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and 0 < pair[0] <= pair[1]


def _is_jitter(strengths: object) -> bool:
    return (
        isinstance(strengths, tuple)
        and len(strengths) == 4
        and min(strengths) >= 0
        and strengths[3] <= 0.5
    )
