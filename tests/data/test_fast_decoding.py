"""JPEGs in a part of their size: never below twice the target, nearly the exact pixels."""

import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fastclip.data.augment import AugmentationCfg
from fastclip.data.images import load_image
from fastclip.data.preprocess import EvaluationTransform, PreprocessCfg, TrainingTransform
from tests.support.images import encoded, random_image

SMOOTH = random_image("RGB", 9, 6).resize((1203, 802)).filter(ImageFilter.GaussianBlur(20))


@pytest.mark.parametrize(
    ("least", "size"),
    [(1, (151, 101)), (100, (151, 101)), (101, (301, 201)), (200, (301, 201)),
     (201, (602, 401)), (401, (602, 401)), (402, (1203, 802)), (5000, (1203, 802))],
)  # fmt: skip
def test_part_is_the_least_that_has_enough_pixels(least, size):
    found = load_image(encoded(SMOOTH, "JPEG"), least_side=least)
    assert found.size == size and found.mode == "RGB"


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, (48, 24)])
def test_fast_pixels_are_nearly_the_exact_ones(mode, size):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    content = encoded(SMOOTH.resize((1200, 800)), "JPEG", quality=95, exif=exif)
    cfg = PreprocessCfg(size, resize_mode=mode)
    exact, fast = (
        EvaluationTransform(cfg, "uint8", decode)(content).numpy().astype(int)
        for decode in ("exact", "fast")
    )
    assert exact.shape == fast.shape
    assert 0 < np.abs(exact - fast).max() <= 16 and np.abs(exact - fast).mean() < 2


def test_training_images_are_nearly_the_exact_ones():
    content = encoded(SMOOTH.resize((1200, 800)), "JPEG", quality=95)
    # All of the image is cropped: of a part, other crops would be drawn.
    aug_cfg = AugmentationCfg(scale=(1.0, 1.0), ratio=(1.5, 1.5))
    exact, fast = (
        TrainingTransform(PreprocessCfg(32), aug_cfg, "uint8", how)(content).numpy().astype(int)
        for how in ("exact", "fast")
    )
    assert 0 < np.abs(exact - fast).max() <= 16 and np.abs(exact - fast).mean() < 2


def test_the_smallest_crop_has_enough_pixels():
    aug_cfg = AugmentationCfg(scale=(0.25, 1.0))
    first = TrainingTransform(PreprocessCfg(32), aug_cfg, "uint8", "fast").transforms[0]
    # A quarter of the area, in a ratio of 3 to 4: sides of 0.43 times the image's.
    assert first.least_side == math.ceil(2 * 32 / (0.5 * math.sqrt(0.75)))
    with pytest.raises(ValueError, match="decode must be one of"):
        TrainingTransform(PreprocessCfg(32), aug_cfg, "uint8", "quick")


@pytest.mark.parametrize("image", [
    encoded(SMOOTH.resize((120, 90)), "PNG"), encoded(SMOOTH.resize((120, 90)), "JPEG"),
    SMOOTH, encoded(random_image("P", 500, 400), "PNG"),
])  # fmt: skip
def test_what_is_no_large_jpeg_is_exact(image):
    cfg = PreprocessCfg(64)
    exact, fast = (EvaluationTransform(cfg, "uint8", d)(image) for d in ("exact", "fast"))
    assert exact.equal(fast)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="decode must be one of"):
        EvaluationTransform(PreprocessCfg(32), "uint8", "quick")
    with pytest.raises(ValueError, match="least_side must be positive"):
        load_image(encoded(SMOOTH, "JPEG"), least_side=0)
