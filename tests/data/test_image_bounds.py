"""Files of images that are mostly something else, and what an image takes of memory."""

import io
import struct
import zlib

import pytest

from fastclip.data import image_bounds
from fastclip.data.images import ImageError, load_image
from tests.support.images import encoded, random_image

MIB = 2**20


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def crumbs() -> dict[str, bytes]:
    image = random_image("RGB", 8, 8)
    jpeg, png, gif, jp2 = (encoded(image, f) for f in ("JPEG", "PNG", "GIF", "JPEG2000"))
    behind_palette = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    exif = segment(0xE1, b"Exif\0\0II*\0" + bytes(65000))
    return {
        "comment of a PPM": b"P6\n#" + b"c" * MIB + b"\n8 8 255\n" + bytes(192),
        "spaces of a PPM": b"P6" + b" " * MIB + b"8 8 255\n" + bytes(192),
        "comments among digits": b"P2 8 8 255\n" + b"#\n" * 2000 + b"1 " * 64,
        "many digits": b"P2 8 8 255\n" + b" " * 9 * MIB + b"1 " * 64,
        "padding of a JPEG": jpeg[:2] + b"\xff" * MIB + jpeg[2:],
        "empty segments of a JPEG": jpeg[:2] + segment(0xFE, b"") * 40_000 + jpeg[2:],
        "EXIF data of a JPEG": jpeg[:2] + exif * 300 + jpeg[2:],
        "empty chunks of a PNG": png[:33] + chunk(b"abCd", b"") * 40_000 + png[33:],
        "empty chunks behind the pixels": png[:-12] + chunk(b"abCd", b"") * 40_000 + png[-12:],
        "zeros of a GIF": gif[:behind_palette] + bytes(MIB) + gif[behind_palette:],
        "boxes of a JPEG 2000": jp2[:12] + struct.pack(">I4s", 8, b"free") * 70_000 + jp2[12:],
    }


CRUMBS = crumbs()


@pytest.mark.parametrize("kind", CRUMBS)
def test_what_is_no_pixels_is_bounded(kind):
    with pytest.raises(ImageError, match=r"^image: .*(than pixels|comments|as decimal digits)"):
        load_image(CRUMBS[kind])


def test_images_with_as_many_parts_as_programs_write_are_read(monkeypatch):
    monkeypatch.setattr(image_bounds, "FREE_READS", 300)
    image = random_image("RGB", 300, 200)
    for data in (
        encoded(image, "PNG", exif=b"Exif\0\0II*\0" + bytes(60000)),
        encoded(image, "JPEG", comment=b"c" * 60000),
        encoded(image, "TIFF", strip_size=900),
        encoded(image.convert("P"), "GIF", comment=b"c" * 20000),
        b"P6\n# by hand\n300 200\n255\n" + image.tobytes(),
    ):
        assert load_image(data).size == (300, 200)


def test_run_lengths_of_a_bmp_are_read_one_by_one():
    size, rows = 200, b"\1\5" * 200 + b"\0\0"
    data = rows * size + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, size, size, 1, 8, 1, len(data), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header
    image = load_image(head + bytes(range(256)) * 4 + data)
    assert image.size == (size, size) and image.getpixel((3, 3)) == (22, 21, 20)


MEASURE = """
import io, json
from PIL import Image
from fastclip.data.images import load_image
from fastclip.process_memory import rise_bytes

turned = Image.Exif()
turned[274] = 6
files = []
for mode, options in (("RGB", {}), ("P", {}), ("RGB", {"exif": turned}), ("I;16", {})):
    files.append(io.BytesIO())
    Image.new(mode, (3000, 3000)).save(files[-1], "PNG", compress_level=1, **options)
load_image(b"P5 1 1 255 0")
print(json.dumps([rise_bytes(lambda: load_image(file)) / 9e6 for file in files]))
"""


def test_memory_is_two_images_at_most_and_one_of_upright_rgb(fresh_process):
    done = fresh_process.run(MEASURE)
    assert done.returncode == 0, done.stderr
    upright, palette, turned, grey = map(float, done.stdout.strip("[]\n ").split(","))
    assert upright < 5 and palette < 6
    assert turned < 9 and grey < 10


def test_no_more_is_asked_of_a_file_than_it_has():
    """A part may say that it has gigabytes, and memory for them would be taken first."""

    class File(io.BytesIO):
        def read(self, size=-1):
            assert 0 <= size <= 3
            return super().read(size)

    for size in (2**40, -1):
        file = image_bounds.BoundedReads(File(b"abc"), ValueError)
        file.seek(0)
        assert file.read(size) == b"abc"
