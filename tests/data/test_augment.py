import random

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data.augment import RATIO, AugmentationCfg, draw_crop, jitter_colors
from fastclip.data.preprocess import image_transform
from fastclip.data.transform_steps import training_steps
from tests.support.images import random_image

EVERYTHING = {
    "scale": (0.2, 1.0), "color_jitter": (0.4, 0.4, 0.4, 0.1), "color_jitter_prob": 0.8,
    "gray_scale_prob": 0.2,
}  # fmt: skip


def seeded(seed, transform, *args):
    random.seed(seed)
    torch.manual_seed(seed)
    return transform(*args)


@pytest.mark.parametrize("mode", ["P", "I;16"])
def test_palette_and_16_bit_grey_are_converted_before_the_crop_is_resized(mode):
    image = random_image(mode, 64, 48)
    transform = image_transform(20, is_train=True)
    result = seeded(0, transform, image)
    levels = np.round(np.asarray(image) / 257).astype(np.uint8)
    rgb = image.convert("RGB") if mode == "P" else Image.fromarray(levels).convert("RGB")
    assert torch.equal(result, seeded(0, transform, rgb))


def test_seed_decides_the_view():
    image = random_image("RGB", 64, 48)
    transform = image_transform(20, is_train=True, aug_cfg=EVERYTHING)
    first, again, other = (seeded(seed, transform, image) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_views_do_not_depend_on_torchs_defaults():
    image = random_image("RGB", 64, 48)
    transform = image_transform(20, is_train=True, aug_cfg=EVERYTHING)
    expected = seeded(0, transform, image)
    torch.set_default_dtype(torch.float64)
    try:
        result = seeded(0, transform, image)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(result, expected)


def test_crops_are_within_the_image_and_the_ranges():
    width, height, scale, ratio = 640, 480, (0.2, 0.6), (0.5, 2.0)
    shares, aspects = [], []
    for _ in range(300):
        left, top, right, bottom = draw_crop(width, height, scale, ratio)
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        shares.append((right - left) * (bottom - top) / (width * height))
        aspects.append((right - left) / (bottom - top))
    assert 0.195 < min(shares) < 0.25 and 0.55 < max(shares) < 0.605
    assert 0.495 < min(aspects) < 0.6 and 1.7 < max(aspects) < 2.02


def test_ratio_is_kept_to():
    image = random_image("RGB", 60, 20)
    settings = {"scale": (1.0, 1.0), "ratio": (3.0, 3.0)}  # open_clip would crop to 4 : 3
    pixels = image_transform(20, is_train=True, aug_cfg=settings, output="uint8")(image)
    whole = image_transform(20, is_train=False, resize_mode="squash", output="uint8")(image)
    assert torch.equal(pixels, whole)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (1, 300, (0, 149, 1, 150)),
        (300, 1, (149, 0, 150, 1)),
        (30, 300, (0, 130, 30, 170)),  # 3 : 4
        (300, 30, (130, 0, 170, 30)),  # 4 : 3
    ],
)
def test_narrow_image_gives_its_largest_central_part(width, height, box):
    assert draw_crop(width, height, (1.0, 1.0), RATIO) == box


def test_image_that_no_drawn_crop_fits_into_is_taken_whole():
    torch.manual_seed(0)
    assert draw_crop(100, 101, (1.0, 1.0), (0.8, 1.25)) == (0, 0, 100, 101)


def test_grey_image_has_three_equal_channels():
    view = random_image("RGB", 64, 48)
    for step in training_steps((20, 24), AugmentationCfg(gray_scale_prob=1.0)):
        view = step(view)
    red, green, blue = view.split()
    assert view.size == (24, 20)
    assert red.tobytes() == green.tobytes() == blue.tobytes()


def test_hue_turns_colours_and_leaves_grey():
    image = random_image("RGB", 64, 48)
    grey = image.convert("L").convert("RGB")
    torch.manual_seed(0)
    turned = np.asarray(jitter_colors(image, 0, 0, 0, 0.5)).astype(int)
    assert (turned.max(axis=2) == np.asarray(image).max(axis=2)).all()
    assert np.abs(turned - np.asarray(image)).mean() > 20
    assert (np.asarray(jitter_colors(grey, 0, 0, 0, 0.5)) == np.asarray(grey)).all()


def test_settings_from_json_may_be_lists():
    cfg = AugmentationCfg(
        scale=[0.5, 1.0], ratio=[1, 2], color_jitter=[0, 0, 0, 0.5], color_jitter_prob=1
    )
    assert (cfg.scale, cfg.ratio, cfg.color_jitter) == ((0.5, 1.0), (1, 2), (0, 0, 0, 0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.0, 1.0)}, r"scale must be 0 < low <= high <= 1, got \(0.0, 1.0\)"),
        ({"scale": (0.9, 0.5)}, "scale must be"),
        ({"scale": (0.9, 1.1)}, "scale must be"),
        ({"scale": (0.9,)}, "scale must be"),
        ({"scale": 0.9}, "scale must be"),
        ({"ratio": (2.0, 1.0)}, "ratio must be 0 < low <= high"),
        ({"ratio": (0, 1.0)}, "ratio must be"),
        ({"use_timm": True}, "use_timm must be unset, as it needs timm's transforms, got True"),
        ({"re_prob": 0.25}, "re_prob must be unset"),
        ({"re_count": 4}, "re_count must be unset"),
        ({"color_jitter_prob": 0.8}, "color_jitter must be set as well"),
        ({"color_jitter": (0.4,) * 4}, "color_jitter_prob must be set as well"),
        ({"color_jitter": 0.4, "color_jitter_prob": 1}, "color_jitter must be 4 strengths"),
        ({"color_jitter": (0.4,) * 3, "color_jitter_prob": 1}, "color_jitter must be 4 strengths"),
        ({"color_jitter": (-1, 0, 0, 0), "color_jitter_prob": 1}, "color_jitter must be"),
        ({"color_jitter": (0, 0, 0, 0.6), "color_jitter_prob": 1}, "color_jitter must be"),
        ({"color_jitter": (0,) * 4, "color_jitter_prob": 1.5}, "color_jitter_prob must be in"),
        ({"gray_scale_prob": -0.1}, r"gray_scale_prob must be in \[0, 1\], got -0.1"),
    ],
)
def test_settings_reject_what_cannot_be_done(settings, message):
    with pytest.raises(ValueError, match=message):
        AugmentationCfg(**settings)
