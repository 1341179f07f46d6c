"""Images with random pixels, in every mode that image files come in, and files of them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

CHANNELS = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "P": 1, "I;16": 1}


def random_image(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    """Every byte is drawn at random: nothing is smooth, flat or the same on two sides."""
    generator = np.random.default_rng(seed)
    if mode == "1":
        return random_image("L", width, height, seed).point(lambda level: level > 127, "1")
    size = width * height * CHANNELS[mode] * (2 if mode == "I;16" else 1)
    pixels = generator.integers(0, 256, size, dtype=np.uint8).tobytes()
    image = Image.frombytes(mode, (width, height), pixels)
    if mode == "P":
        image.putpalette(generator.integers(0, 256, 3 * 256, dtype=np.uint8).tobytes())
    return image


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends after saying how large it is."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data)
    )
