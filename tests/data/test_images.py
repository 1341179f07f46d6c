import builtins
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from fastclip.data.images import FORMATS, MAX_PIXELS, ImageError, load_image, to_rgb
from tests.support.images import encoded, png_header, random_image

LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "PPM": {},
    "JPEG2000": {},
}
LOSSY = {"JPEG": {}, "AVIF": {}}

# What EXIF's number says to do with the stored rows and columns, in numpy's words.
TURNED = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def grey_tiff(data: bytes, width: int, bits: int, white_is_zero=False, signed=False) -> bytes:
    tags = {
        256: width, 257: 1, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 8, 277: 1,
        278: 1, 279: len(data), 339: 2 if signed else 1,
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    return (
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data
        + struct.pack("<H", len(tags)) + entries + bytes(4)
    )  # fmt: skip


# What is read


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read(format):
    image = random_image("P" if format == "GIF" else "RGB", 23, 17)
    data = encoded(image, format, **{**LOSSLESS, **LOSSY}[format])
    loaded = load_image(data)
    assert loaded.mode == "RGB"
    expected = image if format in LOSSLESS else Image.open(io.BytesIO(data))
    assert (pixels(loaded) == pixels(expected.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "P"])
def test_png_of_every_mode_is_converted_as_pillow_converts_it(mode):
    image = random_image(mode, 23, 17)
    loaded = load_image(encoded(image, "PNG"))
    assert loaded.mode == "RGB"
    assert (pixels(loaded) == pixels(image.convert("RGB"))).all()


def test_alpha_is_dropped_and_shows_the_colour_beneath():
    image = random_image("RGBA", 23, 17)
    loaded = load_image(encoded(image, "PNG"))
    assert (pixels(loaded) == pixels(image)[..., :3]).all()


@pytest.mark.parametrize(
    ("format", "transparency"),
    [("GIF", 3), ("PNG", 3), ("PNG", bytes(range(256)))],
    ids=["one in GIF", "one in PNG", "all in PNG"],
)
def test_palette_with_transparency_keeps_its_colours_without_a_warning(format, transparency):
    image = random_image("P", 23, 17)
    loaded = load_image(encoded(image, format, transparency=transparency))
    assert (pixels(loaded) == pixels(image.convert("RGB"))).all()


def test_cmyk_jpeg_is_converted_to_rgb():
    data = encoded(random_image("CMYK", 23, 17), "JPEG")
    stored = Image.open(io.BytesIO(data))
    assert stored.mode == "CMYK"
    assert (pixels(load_image(data)) == pixels(stored.convert("RGB"))).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey_is_scaled_by_its_full_range(format):
    values = np.array([[0, 128, 129, 255, 256, 32767, 32768, 65406, 65407, 65535]], np.uint16)
    loaded = load_image(encoded(Image.fromarray(values), format))
    expected = [round(int(value) / 257) for value in values[0]]
    assert expected[:3] == [0, 0, 1]
    assert expected[-3:] == [254, 255, 255]
    assert (pixels(loaded) == np.array(expected)[None, :, None]).all()


def test_12_bit_tiff_is_scaled_by_12_bits():
    data = bytes([0x00, 0x0F, 0xFF, 0x80, 0x08, 0x00])  # 0, 4095, 2048, 2048
    assert pixels(load_image(grey_tiff(data, 4, bits=12)))[0, :, 0].tolist() == [0, 255, 128, 128]


def test_pgm_is_scaled_by_the_white_that_it_declares():
    data = b"P5 3 1 1000\n" + np.array([0, 500, 1000], ">u2").tobytes()
    assert pixels(load_image(data))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(format, orientation):
    image = random_image("RGB", 23, 17)
    options = LOSSLESS.get(format, {})
    stored = pixels(Image.open(io.BytesIO(encoded(image, format, **options))))
    loaded = load_image(encoded(image, format, exif=exif(orientation), **options))
    assert (pixels(loaded) == TURNED[orientation](stored)).all()


def test_orientation_is_applied_before_a_palette_is_lost():
    image = random_image("P", 23, 17)
    loaded = load_image(encoded(image, "PNG", exif=exif(6)))
    assert (pixels(loaded) == np.rot90(pixels(image.convert("RGB")), -1)).all()


def test_loaded_image_is_not_turned_again():
    loaded = load_image(encoded(random_image("RGB", 23, 17), "JPEG", exif=exif(6)))
    assert loaded.info == {}
    assert (pixels(ImageOps.exif_transpose(loaded)) == pixels(loaded)).all()


@pytest.mark.parametrize("damaged", [b"Exif\0\0", b"Exif\0\0no such thing", b"Exif\0\0II*\0\xff"])
def test_damaged_exif_leaves_the_image_as_stored(damaged):
    image = random_image("RGB", 23, 17)
    loaded = load_image(encoded(image, "JPEG", exif=damaged))
    assert (pixels(loaded) == pixels(load_image(encoded(image, "JPEG")))).all()


def test_exif_that_ends_early_is_a_warning_of_pillows():
    image = random_image("RGB", 23, 17)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        loaded = load_image(encoded(image, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"))
    assert (pixels(loaded) == pixels(load_image(encoded(image, "JPEG")))).all()


def test_exif_that_pillow_cannot_read_leaves_the_image_as_stored():
    image, text = random_image("RGB", 23, 17), PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n4\nno hexadecimal number\n")
    data = encoded(image, "PNG", pnginfo=text)
    with pytest.raises(ValueError, match="hexadecimal"), Image.open(io.BytesIO(data)) as image:
        image.getexif()
    assert (pixels(load_image(data)) == pixels(image)).all()


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_animation_gives_its_first_frame(format):
    first, *others = [random_image("P", 23, 17, seed).convert("RGB") for seed in range(3)]
    first = first.quantize(64) if format == "GIF" else first
    options = LOSSLESS.get(format, {})
    data = encoded(first, format, save_all=True, append_images=others, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    difference = pixels(load_image(data)).astype(int) - pixels(first.convert("RGB"))
    assert np.abs(difference).mean() <= (60 if format in LOSSY else 0)  # other frames: 75


# Where it is read from


def test_path_bytes_and_file_give_the_same_image(tmp_path):
    image = random_image("RGB", 23, 17)
    data, path = encoded(image, "PNG"), tmp_path / "image.png"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert (pixels(load_image(source)) == pixels(image)).all()


def test_extension_does_not_matter(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(random_image("RGB", 23, 17), "PNG"))
    assert load_image(path).size == (23, 17)


def test_file_is_read_from_its_start_and_stays_open():
    file = io.BytesIO(encoded(random_image("RGB", 23, 17), "PNG"))
    file.seek(100)
    assert load_image(file).size == (23, 17)
    assert load_image(file).size == (23, 17)
    assert not file.closed


def test_file_without_seek_is_read():
    class Stream(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation("seek")

    assert load_image(Stream(encoded(random_image("RGB", 23, 17), "PNG"))).size == (23, 17)


def test_member_of_an_archive_is_read_and_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("good.png", encoded(random_image("RGB", 23, 17), "PNG"))
        archive.writestr("bad.png", b"no image")
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        with archive.open("good.png") as member:
            assert load_image(member).size == (23, 17)
        with archive.open("bad.png") as member, pytest.raises(ImageError, match=r"^bad\.png: "):
            load_image(member)


@pytest.mark.parametrize(
    "data",
    [encoded(random_image("RGB", 23, 17), "PNG"), b"", b"text"],
    ids=["image", "empty", "text"],
)
def test_file_that_was_opened_here_is_closed(tmp_path, monkeypatch, data):
    path = tmp_path / "image.png"
    path.write_bytes(data)
    opened = []
    open_ = builtins.open

    def recording_open(*args, **kwargs):
        opened.append(open_(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(builtins, "open", recording_open)
    try:
        load_image(path)
    except ImageError:
        pass
    assert [file.name for file in opened] == [str(path)]
    assert all(file.closed for file in opened)


# What is refused


def test_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        load_image(tmp_path / "nothing.png")


def test_directory_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        load_image(tmp_path)


def test_empty_file_is_refused_by_name(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty$"):
        load_image(path)
    with pytest.raises(ImageError, match=r"^image: the file is empty$"):
        load_image(b"")


@pytest.mark.parametrize(
    "data",
    [b"These are no pixels.", b"P", b"<svg/>", b"%PDF-1.7", bytes(100), b"RIFF\0\0\0\0WAVEfmt "],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, data):
    path = tmp_path / "cat.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"cat\.jpg: (not in a known format|corrupt)"):
        load_image(path)


def test_format_that_starts_a_program_is_refused():
    data = encoded(random_image("RGB", 23, 17), "EPS")
    assert Image.open(io.BytesIO(data)).format == "EPS"
    with pytest.raises(ImageError, match="not in a known format"):
        load_image(data)


def test_format_that_pillow_was_built_without_is_refused_with_its_reason(monkeypatch):
    data = encoded(random_image("RGB", 23, 17), "WEBP")
    monkeypatch.setitem(Image.OPEN, "WEBP", (None, lambda start: "WEBP support not installed"))
    with pytest.raises(ImageError, match="image: WEBP support not installed"):
        load_image(data)


@pytest.mark.parametrize("format", FORMATS)
def test_truncated_file_is_refused_wherever_it_ends(format):
    image = random_image("RGB", 40, 30)
    data = encoded(image, format)
    whole = pixels(load_image(data))
    refused = 0
    for end in range(1, len(data), len(data) // 40):
        try:
            loaded = load_image(data[:end])
        except ImageError as error:
            assert "image: " in str(error)
            refused += 1
        else:  # all pixels are there, and only what follows them is not
            assert (pixels(loaded) == whole).all()
    assert refused > 35


def test_truncated_file_is_refused_by_name(tmp_path):
    path = tmp_path / "half.jpg"
    data = encoded(random_image("RGB", 40, 30), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"half\.jpg: corrupt or truncated \(OSError: .*trunc"):
        load_image(path)


def test_corrupt_pixels_are_refused():
    data = bytearray(encoded(random_image("RGB", 40, 30), "PNG"))
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    with pytest.raises(ImageError, match="image: corrupt or truncated") as caught:
        load_image(bytes(data))
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_raise_nothing_but_image_errors(format):
    data = encoded(random_image("RGB", 40, 30), format)
    for seed in range(60):
        generator = np.random.default_rng(seed)
        damaged = bytearray(data)
        for _ in range(5):
            damaged[generator.integers(min(len(data), 200))] = generator.integers(256)
        try:
            load_image(bytes(damaged))
        except ImageError:
            pass


def test_decompression_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(100_000, 100_000))
    with pytest.raises(
        ImageError, match=r"bomb\.png: 100000 x 100000 pixels are more than max_pixels = 89478485"
    ):
        load_image(path)


def test_image_at_which_pillow_only_warns_is_refused_without_a_warning():
    assert MAX_PIXELS < 10_000 * 9_000 < 2 * MAX_PIXELS
    with pytest.raises(ImageError, match="10000 x 9000 pixels are more than max_pixels"):
        load_image(png_header(10_000, 9_000))


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_bomb_that_pillow_notices_first_is_refused_too(format, monkeypatch):
    image = random_image("RGB", 23, 17)
    data = encoded(image, format, save_all=True, append_images=[random_image("RGB", 23, 17, 1)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match="DecompressionBombError"):
        load_image(data) if format == "WEBP" else load_image(grown_gif(data))


def grown_gif(data: bytes) -> bytes:
    """A GIF whose first frame sticks out of the size in its header."""
    return data[:6] + struct.pack("<HH", 2, 2) + data[10:]


def test_pillows_own_limit_does_not_apply(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert load_image(encoded(random_image("RGB", 23, 17), "PNG")).size == (23, 17)


def test_image_of_exactly_max_pixels_is_read():
    data = encoded(random_image("RGB", 23, 17), "PNG")
    assert load_image(data, max_pixels=23 * 17).size == (23, 17)
    with pytest.raises(ImageError, match="23 x 17 pixels are more than max_pixels = 390"):
        load_image(data, max_pixels=23 * 17 - 1)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_known_white_are_refused(mode, tmp_path):
    image = Image.new(mode, (23, 17))
    path = tmp_path / "grey.tiff"
    image.save(path)
    with pytest.raises(ImageError, match=rf"grey\.tiff: values of mode '{mode}' have no known"):
        load_image(path)
    with pytest.raises(ImageError, match=rf"^image: values of mode '{mode}' have no known white"):
        to_rgb(image)


@pytest.mark.parametrize("kind", ["signed", "white_is_zero"])
def test_16_bit_tiff_whose_values_pillow_leaves_unexplained_is_refused(kind):
    with pytest.raises(ImageError, match="have no known white"):
        load_image(grey_tiff(bytes(8), 4, bits=16, **{kind: True}))


def test_lack_of_memory_is_not_called_a_bad_image(monkeypatch):
    def no_memory(file, name):
        raise MemoryError

    data = encoded(random_image("RGB", 23, 17), "PNG")
    monkeypatch.setitem(Image.OPEN, "PNG", (no_memory, lambda start: True))
    with pytest.raises(MemoryError):
        load_image(data)


@pytest.mark.parametrize("source", [None, 3, io.StringIO("text"), np.zeros((3, 3, 3))])
def test_other_sources_are_a_type_error(source):
    with pytest.raises(TypeError, match="source must be a path, bytes or a file"):
        load_image(source)


@pytest.mark.parametrize("max_pixels", [0, -1])
def test_load_image_rejects_a_limit_that_lets_nothing_through(max_pixels):
    with pytest.raises(ValueError, match="max_pixels must be positive"):
        load_image(b"", max_pixels=max_pixels)


def test_image_error_is_a_value_error_and_travels_between_processes():
    error = pickle.loads(pickle.dumps(ImageError("cat.jpg: empty")))
    assert isinstance(error, ValueError)
    assert str(error) == "cat.jpg: empty"
