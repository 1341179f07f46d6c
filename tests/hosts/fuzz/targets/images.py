"""Images of every format: their headers, and everything that is no pixels."""

from pathlib import Path

from PIL import Image

from fastclip.data.images import FORMATS, ImageError, load_image
from tests.support.images import encoded, random_image

ALLOWED = (ImageError,)
MAX_PIXELS = 2**22  # what an image of the largest size takes is another test's


def seeds() -> list[bytes]:
    turned = Image.Exif()
    turned[274] = 6
    image = random_image("RGB", 24, 17)
    found = [encoded(image, format) for format in FORMATS if format in Image.SAVE]
    found += [encoded(image, format, exif=turned) for format in ("JPEG", "PNG", "WEBP", "TIFF")]
    found += [encoded(random_image(mode, 24, 17), "PNG") for mode in ("1", "P", "LA", "I;16")]
    found += [encoded(image, "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg")]
    return [*found, b"P3 # digits\n2 2 255\n" + b"1 2 3\n" * 4]


def read(path: Path) -> None:
    image = load_image(path, MAX_PIXELS)
    assert image.mode == "RGB" and image.info == {}
