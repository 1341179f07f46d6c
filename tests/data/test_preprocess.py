import io
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data import preprocess
from fastclip.data.images import ImageError
from fastclip.data.pixels import standardize
from fastclip.data.preprocess import (
    EvaluationTransform,
    PreprocessCfg,
    TrainingTransform,
    image_transform,
    image_transform_v2,
)
from tests.support.images import encoded, random_image

# Modes


def test_palette_is_looked_up_before_resizing():
    image, transform = random_image("P", 60, 40), image_transform(48, False)
    assert torch.equal(transform(image), transform(image.convert("RGB")))


def test_palette_with_transparency_is_evaluated_without_a_warning():
    image = Image.open(
        io.BytesIO(encoded(random_image("P", 60, 40), "PNG", transparency=bytes(range(256))))
    )
    expected = image_transform(48, False)(random_image("P", 60, 40))
    assert torch.equal(image_transform(48, False)(image), expected)


def test_16_bit_grey_is_scaled_and_not_clipped():
    image, transform = random_image("I;16", 60, 40), image_transform(48, False)
    levels = np.round(np.asarray(image) / 257).astype(np.uint8)
    assert torch.equal(transform(image), transform(Image.fromarray(levels)))


@pytest.mark.parametrize("mode", ["I", "F"])
@pytest.mark.parametrize("is_train", [False, True])
def test_values_without_a_known_white_are_refused(mode, is_train):
    with pytest.raises(ImageError, match="have no known white"):
        image_transform(48, is_train)(Image.new(mode, (60, 40)))


# Sizes


@pytest.mark.parametrize("resize_mode", preprocess.ONE_SIZE_MODES)
@pytest.mark.parametrize("is_train", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (36, 52), (52, 36), (60, 40)])
def test_image_of_any_shape_becomes_one_of_the_size(shape, is_train, resize_mode):
    transform = image_transform((36, 52), is_train, resize_mode=resize_mode)
    assert transform(random_image("RGB", *shape)).shape == (3, 36, 52)


def test_image_of_the_size_is_left_as_it_is():
    image = random_image("RGB", 52, 36)
    for resize_mode in preprocess.ONE_SIZE_MODES:
        transform = image_transform((36, 52), False, resize_mode=resize_mode, output="uint8")
        assert (transform(image).permute(1, 2, 0).numpy() == np.asarray(image)).all()


@pytest.mark.parametrize("shape", [(1, 500), (500, 1)])
def test_sliver_keeps_one_pixel(shape):
    image = Image.new("L", shape, 255)
    pixels = image_transform(48, False, resize_mode="longest", output="uint8")(image)
    assert (pixels == 255).sum() == 3 * 48
    assert (pixels == 0).sum() == 3 * 48 * 47


def test_sliver_that_would_grow_beyond_all_bounds_is_refused():
    image = Image.new("L", (1, 100_000))
    with pytest.raises(ImageError, match="would grow to 224 x 22400000"):
        image_transform(224, False)(image)
    assert image_transform(224, False, resize_mode="longest")(image).shape == (3, 224, 224)


def test_mean_of_zero_is_zero():
    image = random_image("RGB", 60, 40)  # open_clip takes 0 for "not given"
    result = image_transform(48, False, mean=0, std=1)(image)
    raw = image_transform(48, False, output="uint8")(image)
    assert torch.equal(result, raw / 255)


# Sources


@pytest.mark.parametrize("is_train", [False, True])
def test_files_are_turned_upright_and_images_are_not(tmp_path, is_train):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "image.png"
    random_image("RGB", 60, 40).save(path, exif=exif)
    transform = image_transform(
        48, is_train, resize_mode="squash", aug_cfg={"scale": (1, 1), "ratio": (0.1, 10)}
    )

    def seeded(source):
        torch.manual_seed(0)
        return transform(source)

    upright = random_image("RGB", 60, 40).transpose(Image.Transpose.ROTATE_270)
    for source in (path, str(path), path.read_bytes()):
        assert torch.equal(seeded(source), seeded(upright))
    with Image.open(path) as image, path.open("rb") as file:
        assert torch.equal(seeded(image), seeded(random_image("RGB", 60, 40)))
        assert torch.equal(seeded(file), seeded(upright))


def test_corrupt_file_is_refused_by_name(tmp_path):
    path = tmp_path / "cat.jpg"
    path.write_text("no image")
    with pytest.raises(ImageError, match=r"cat\.jpg"):
        image_transform(48, False)(path)


def test_truncated_image_that_the_caller_opened_is_pillows_error():
    data = encoded(random_image("RGB", 60, 40), "JPEG")
    with pytest.raises(OSError, match="truncated"):
        image_transform(48, False)(Image.open(io.BytesIO(data[: len(data) // 2])))


@pytest.mark.parametrize("source", [torch.zeros(3, 60, 40), np.zeros((60, 40, 3), np.uint8), None])
def test_what_is_no_image_is_a_type_error(source):
    with pytest.raises(TypeError, match="source must be"):
        image_transform(48, False)(source)


def test_source_is_left_as_it_is():
    image = random_image("RGB", 48, 48)
    transform = image_transform(48, False, output="uint8")
    transform(image).zero_()
    assert image.tobytes() == random_image("RGB", 48, 48).tobytes()


# Output


@pytest.mark.parametrize("is_train", [False, True])
def test_uint8_standardized_later_is_the_float32_output(is_train):
    cfg = PreprocessCfg(size=(36, 52))
    image = random_image("RGB", 60, 40)
    torch.manual_seed(0)
    expected = image_transform_v2(cfg, is_train)(image)
    torch.manual_seed(0)
    pixels = image_transform_v2(cfg, is_train, output="uint8")(image)
    assert (pixels.dtype, pixels.shape, pixels.is_contiguous()) == (torch.uint8, (3, 36, 52), True)
    assert torch.equal(standardize(pixels, cfg.mean, cfg.std), expected)
    batch = torch.stack([pixels, pixels])
    assert torch.equal(standardize(batch, cfg.mean, cfg.std)[1], expected)


def test_output_does_not_depend_on_torchs_default_dtype():
    image, transform = random_image("RGB", 60, 40), image_transform(48, False)
    expected = transform(image)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(transform(image), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("is_train", [False, True])
def test_output_rejects_other_names(is_train):
    with pytest.raises(ValueError, match=r"output must be one of .*, got 'float16'"):
        image_transform(48, is_train, output="float16")


# Transforms as objects


@pytest.mark.parametrize("is_train", [False, True])
def test_transform_can_be_pickled_compared_and_read(is_train):
    transform = image_transform(48, is_train, aug_cfg={"gray_scale_prob": 0.2}, output="uint8")
    assert isinstance(transform, TrainingTransform if is_train else EvaluationTransform)
    assert pickle.loads(pickle.dumps(transform)) == transform
    text = repr(transform)
    assert text.startswith(f"{type(transform).__name__}(cfg=PreprocessCfg(size=48, mode='RGB', ")
    assert text.endswith("output='uint8')")
    assert ("gray_scale_prob=0.2" in text) == is_train


def test_both_functions_make_the_same_transforms():
    settings = {
        "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "resize_mode": "longest",
        "interpolation": "bilinear", "fill_color": 7,
    }  # fmt: skip
    cfg = PreprocessCfg(size=(36, 52), **settings)
    for is_train in (False, True):
        transform = image_transform((36, 52), is_train, **settings)
        assert transform == image_transform_v2(cfg, is_train)
        assert transform.cfg == cfg


def test_augmentation_may_be_a_mapping_or_settings():
    settings = preprocess.AugmentationCfg(scale=(0.5, 1.0))
    assert image_transform(48, True, aug_cfg=settings) == image_transform(
        48, True, aug_cfg={"scale": [0.5, 1.0]}
    )
    assert image_transform(48, True).aug_cfg == preprocess.AugmentationCfg()
    with pytest.raises(TypeError, match="flip"):
        image_transform(48, True, aug_cfg={"flip": 0.5})


def test_nothing_of_torchvision_is_imported(fresh_process):
    code = "import sys, fastclip.data.preprocess; assert 'torchvision' not in sys.modules"
    done = fresh_process.run(code)
    assert done.returncode == 0, done.stderr


# Settings


def test_settings_are_read_back_from_json():
    cfg = PreprocessCfg(size=(36, 52), mean=(0.1, 0.2, 0.3), resize_mode="squash")
    assert PreprocessCfg.from_dict(json.loads(json.dumps(cfg.to_dict()))) == cfg


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be a positive number of pixels or two, at most 8,192, got 0"),
        ({"size": (224, -1)}, "size must be"),
        ({"size": (3, 224, 224)}, "size must be"),
        ({"size": 224.0}, "size must be"),
        ({"size": None}, "size must be"),
        ({"mode": "L"}, "mode must be 'RGB', got 'L'"),
        ({"mean": (0.5, 0.5)}, r"mean must be one number or three, got \(0.5, 0.5\)"),
        ({"std": (0.5,)}, "std must be one number or three"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be positive"),
        ({"interpolation": "nearest"}, "interpolation must be one of .*, got 'nearest'"),
        ({"resize_mode": "crop"}, "resize_mode must be one of .*, got 'crop'"),
        ({"fill_color": 256}, r"fill_color must be in \[0, 255\], got 256"),
        ({"fill_color": -1}, "fill_color must be"),
    ],
)
def test_settings_reject_what_cannot_be_done(settings, message):
    with pytest.raises(ValueError, match=message):
        PreprocessCfg(**settings)
