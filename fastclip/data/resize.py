"""Resizes an image to the encoder's size in three ways, each equal to open_clip's bit for bit.

"shortest" fills the frame and cuts off what sticks out, "longest" shows all of the image and pads
it, "squash" changes its aspect ratio. Pillow's filters widen with the reduction, so that there is
no aliasing.
"""

import math

from PIL import Image

from fastclip.data.images import MAX_PIXELS, ImageError


def resize(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resize to `size` (height, width) whatever the aspect ratio.

    Raises:
        ImageError: `size` has more than `MAX_PIXELS` pixels.
    """
    height, width = size
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"image: too narrow, its {image.width} x {image.height} pixels would grow to "
            f"{width} x {height}"
        )
    return image.resize((width, height), resample)


def cover(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resize so that the image just covers `size` (height, width).

    If `size` is not square, the filter is bicubic whatever `resample` says, as in open_clip.

    Raises:
        ImageError: the image is so narrow that it would grow to more than `MAX_PIXELS`.
    """
    target_height, target_width = size
    if target_height == target_width:
        return resize_shorter_side(image, target_width, resample)
    width, height = image.size
    ratio = min(height / target_height, width / target_width)
    return resize(image, (round(height / ratio), round(width / ratio)), Image.Resampling.BICUBIC)


def resize_shorter_side(image: Image.Image, side: int, resample: Image.Resampling) -> Image.Image:
    """Resize so that the shorter side has `side` pixels, and keep the aspect ratio.

    Raises:
        ImageError: as `cover`.
    """
    width, height = image.size
    if width <= height:
        return resize(image, (int(side * height / width), side), resample)
    return resize(image, (side, int(side * width / height)), resample)


def fit(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resize so that all of the image just fits into `size` (height, width)."""
    width, height = image.size
    ratio = max(height / size[0], width / size[1])
    # A side that would round to 0, where open_clip fails, keeps one pixel.
    return resize(image, (max(1, round(height / ratio)), max(1, round(width / ratio))), resample)


def center_crop(image: Image.Image, size: tuple[int, int], round_down: bool = False) -> Image.Image:
    """Cut out the centre of `size` (height, width); what lies outside the image is black.

    Args:
        round_down: round the corner down, as transformers' processors do; otherwise round it to the
            nearest pixel, and halves to the even one.
    """
    height, width = size
    top, left = (image.height - height) / 2, (image.width - width) / 2
    top, left = (math.floor(top), math.floor(left)) if round_down else (round(top), round(left))
    return image.crop((left, top, left + width, top + height))


def center_crop_or_pad(image: Image.Image, size: tuple[int, int], fill: int) -> Image.Image:
    """Cut off what exceeds `size` (height, width) on both sides, and pad what is missing.

    Args:
        fill: value of every channel of the padding, in the mode of the image: 0 is black in RGB
            and white in CMYK.
    """
    height, width = size
    image = center_crop(image, (min(height, image.height), min(width, image.width)))
    channels = len(image.getbands())
    frame = Image.new(image.mode, (width, height), fill if channels == 1 else (fill,) * channels)
    frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return frame
