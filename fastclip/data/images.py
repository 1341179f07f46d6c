"""Reads a file into upright RGB pixels, or raises an error that names the file and the reason.

This module returns pixels only: turned as the EXIF orientation says, eight bits per channel, the
first frame of an animation. As in open_clip, transparency is dropped, so that the colours beneath
it show, and colour profiles are not applied.
"""

import io
import os
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from fastclip.data.image_bounds import PLAIN, BoundedReads, objection_to_plain
from fastclip.data.regular_file import open_regular

# A closed list: some of Pillow's other readers start programs (EPS) or read only a header.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MAX_PIXELS = 2**28 // 3  # a quarter of a GiB of RGB; Pillow warns from the same number on
MAX_BMP_READS = 2**22  # for run lengths, which Pillow reads byte by byte
TILE = 1024  # side in pixels of the squares in which 16-bit grey is scaled

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image cannot be used. The message names its file, or "image", and the reason.

    Example:
        >>> try:
        ...     image = fastclip.load_image("photo.jpg")
        ... except fastclip.ImageError as error:
        ...     print(error)
    """


def load_image(
    source: str | os.PathLike | bytes | BinaryIO,
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
) -> Image.Image:
    """Return the image in `source`, upright, in mode RGB, without metadata.

    Palettes are looked up, CMYK is converted, grey of 12 or 16 bits is scaled by its full range.
    An image whose EXIF data cannot be read is taken as upright. Damage that the format's decoder
    does not notice goes unnoticed here: a changed byte in a JPEG gives a changed image.

    Besides the file, decoding takes at most two images of four bytes per pixel (Pillow's RGB) of
    memory: 683 MiB at `MAX_PIXELS`, and half of that for an upright RGB image. Pillow's decoder
    takes one more image for AVIF, two more for WebP and three more for JPEG 2000.

    Args:
        source: a path, the bytes of a file, or a file open for reading bytes, which is read from
            its start and stays open. The formats are `FORMATS`.
        max_pixels: images with more pixels are refused by their header, before decoding.
        least_side: decode a JPEG at a half, a quarter or an eighth of its width and height, which
            is faster: the smallest size that has at least this many pixels on both sides.

    Raises:
        FileNotFoundError: there is no such file. Other errors of opening it stay OSErrors, also
            that it is a folder, a pipe, a socket or a device.
        ImageError: the file is empty, of an unknown format, corrupt, truncated (unless Pillow's
            LOAD_TRUNCATED_IMAGES is set), has more than `max_pixels` pixels, has too much data
            besides its pixels (see `image_bounds.py`), or has values without a known white:
            floats, 32-bit integers, signed 16-bit TIFFs or those with white as 0.
        TypeError: `source` is none of the above.
        ValueError: `max_pixels` or `least_side` is not positive.

    Example:
        >>> fastclip.load_image("photos/cat/0.jpg").mode
        'RGB'
    """
    for name, value in (("max_pixels", max_pixels), ("least_side", least_side)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be positive, got {value}")
    if isinstance(source, str | os.PathLike):
        with open_regular(source) as file:
            return _decode(file, os.fspath(source), max_pixels, least_side)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), "image", max_pixels, least_side)
    if hasattr(source, "read") and isinstance(source.read(0), bytes):
        file = source if source.seekable() else io.BytesIO(source.read())
        return _decode(file, getattr(source, "name", None) or "image", max_pixels, least_side)
    raise TypeError(
        f"source must be a path, bytes or a file open for reading bytes, got {type(source)}"
    )


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Return a copy in mode RGB, without metadata.

    Raises:
        ImageError: the values have no known white (see `load_image`).
    """
    rgb = _rgb_of(image, name)
    return rgb.copy() if rgb.im is image.im else rgb


def _rgb_of(image: Image.Image, name: str) -> Image.Image:
    """Do what `to_rgb` does, but share the memory of `image` if it is RGB already."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bit_grey(image, name)
    image.load()
    pixels = image._new(image.im)  # a copy of everything but the pixels
    # Pillow would also convert the colour that stands for transparent, and warn if it cannot.
    pixels.info = {}
    return pixels if pixels.mode == "RGB" else pixels.convert("RGB")


def _decode(file: BinaryIO, name: str, max_pixels: int, least_side: int | None) -> Image.Image:
    try:
        file = BoundedReads(file, lambda reason: ImageError(f"{name}: {reason}"))
        image = _read_header(file, name)
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"{name}: {width} x {height} pixels are more than max_pixels = {max_pixels}"
            )
        if least_side is not None:
            image.draft(None, (least_side, least_side))  # has an effect on JPEGs only
        file.begin_pixels(MAX_BMP_READS if image.format == "BMP" else 0)
        image.load()
        turn = TURNS.get(_orientation(image))
        rgb = _rgb_of(image, name)
        del image  # before there is a third image
        return rgb if turn is None else rgb.transpose(turn)
    except (ImageError, MemoryError):
        raise
    # On damaged files Pillow's readers may raise any error.
    except Exception as error:
        raise ImageError(
            f"{name}: corrupt or truncated ({type(error).__name__}: {error!s:.200})"
        ) from error


def _read_header(file: BinaryIO, name: str) -> Image.Image:
    """Do what Image.open does, for `FORMATS` only and without Pillow's check of the size.

    Pillow's check warns about some images and raises for others, by a global limit.
    """
    Image.init()
    file.seek(0)
    start = file.read(16)
    if not start:
        raise ImageError(f"{name}: the file is empty")
    for factory, accepts in (Image.OPEN[format] for format in FORMATS if format in Image.OPEN):
        answer = accepts(start)
        if isinstance(answer, str):  # this Pillow was built without the format
            raise ImageError(f"{name}: {answer}")
        if answer:
            if start[:2] in PLAIN and (objection := objection_to_plain(file)):
                raise ImageError(f"{name}: {objection}")
            file.seek(0)
            return factory(file, "")
    raise ImageError(f"{name}: not in a known format ({', '.join(FORMATS)})")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 (upright) if it has none."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1  # damage to metadata does not make the pixels worse


def _eight_bit_grey(image: Image.Image, name: str) -> Image.Image:
    """Scale grey values of more than 8 bits from the range 0 to white to 0 to 255."""
    white = _white(image)
    if white is None:
        raise ImageError(f"{name}: values of mode {image.mode!r} have no known white")
    grey = Image.new("L", image.size)
    for top in range(0, image.height, TILE):
        for left in range(0, image.width, TILE):
            right, bottom = min(left + TILE, image.width), min(top + TILE, image.height)
            values = np.asarray(image.crop((left, top, right, bottom))).astype(np.uint32)
            scaled = ((values * 255 + white // 2) // white).astype(np.uint8)
            grey.paste(Image.fromarray(scaled), (left, top))
    return grey


def _white(image: Image.Image) -> int | None:
    """Return the value of white, None if it is not known."""
    if image.mode == "I" and image.format == "PPM":
        return 2**16 - 1  # whatever the file declares: Pillow has scaled the values
    if not image.mode.startswith("I;16"):
        return None
    tags = getattr(image, "tag_v2", {})
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
        return None  # white is 0, which Pillow only inverts for 8 bits
    return 2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1
