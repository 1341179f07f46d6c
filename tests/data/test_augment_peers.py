"""Training images beside open_clip's and torchvision's: equal seeds, equal bits."""

import random
import warnings

import pytest
import torch

from fastclip.data.augment import AugmentationCfg, draw_crop
from fastclip.data.preprocess import image_transform
from tests.support.images import random_image
from tests.support.peers import open_clip

JITTER = {"color_jitter": (0.4, 0.4, 0.4, 0.1), "color_jitter_prob": 0.8}
AUGMENTATIONS = {
    "default": {},
    "small crops": {"scale": (0.05, 0.5)},
    "whole image": {"scale": (1.0, 1.0)},
    "jitter": JITTER,
    "grey": {"gray_scale_prob": 0.5},
    "jitter and grey": {**JITTER, "gray_scale_prob": 0.2},
    "strong jitter": {"color_jitter": (1.5, 2, 3.0, 0.5), "color_jitter_prob": 1.0},
    "contrast only": {"color_jitter": (0, 0.8, 0, 0), "color_jitter_prob": 0.5},
    "nothing to jitter": {"color_jitter": (0, 0, 0, 0), "color_jitter_prob": 0.5},
    "never": {"color_jitter": (1, 1, 1, 0.5), "color_jitter_prob": 0.0, "gray_scale_prob": 0.0},
}
# The narrow ones have no crop of an aspect ratio within 3/4 and 4/3, unless it is small.
SHAPES = [(64, 48), (48, 64), (32, 32), (33, 31), (1, 1), (1, 300), (300, 1), (400, 10), (5, 7)]


def seeded(seed, transform, *args):
    """Return the result and the next number of both generators."""
    random.seed(seed)
    torch.manual_seed(seed)
    result = transform(*args)
    return result, random.random(), torch.rand(()).item()


def assert_trains_on_open_clips_images(aug_cfg, shapes, seeds, size=(20, 24), mode="RGB"):
    ours = image_transform(size, is_train=True, aug_cfg=aug_cfg)
    with warnings.catch_warnings():  # that fields are "unused": it names those in use, too
        warnings.simplefilter("ignore")
        theirs = open_clip.transform.image_transform(size, is_train=True, aug_cfg=dict(aug_cfg))
    for seed in seeds:
        image = random_image(mode, *shapes[seed % len(shapes)], seed)
        result, *after = seeded(seed, ours, image)
        expected, *expected_after = seeded(seed, theirs, image)
        assert torch.equal(result, expected), (seed, image)
        assert after == expected_after, (seed, image)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_training_image_is_bit_identical_to_open_clips_with_equal_seeds(name):
    assert_trains_on_open_clips_images(AUGMENTATIONS[name], SHAPES, range(60))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "1"])
def test_training_image_of_another_mode_is_bit_identical_to_open_clips(mode):
    aug_cfg = AUGMENTATIONS["jitter and grey"]
    assert_trains_on_open_clips_images(aug_cfg, SHAPES, range(20), mode=mode)


def test_training_image_of_the_usual_size_is_bit_identical_to_open_clips():
    shapes = [(640, 480), (224, 224)]
    assert_trains_on_open_clips_images(AUGMENTATIONS["jitter"], shapes, range(4), size=224)


@pytest.mark.parametrize("default_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [9, 701, 10_000_001])
@pytest.mark.parametrize("height", [11, 1001, 20_000_003])
def test_crop_is_torchvisions_for_images_of_any_size(width, height, default_dtype):
    from torchvision.transforms import RandomResizedCrop  # importable once open_clip is

    image, settings = torch.empty(3, height, width, device="meta"), ((0.05, 1.0), (0.7, 1.45))
    for seed in range(50):
        top, left, crop_height, crop_width = seeded(
            seed, RandomResizedCrop.get_params, image, *settings
        )[0]
        torch.set_default_dtype(default_dtype)
        try:
            box, *_ = seeded(seed, draw_crop, width, height, *settings)
        finally:
            torch.set_default_dtype(torch.float32)
        assert box == (left, top, left + crop_width, top + crop_height)


def test_settings_are_open_clips_with_its_order_and_defaults():
    ours, theirs = AugmentationCfg(), open_clip.transform.AugmentationCfg()
    assert vars(ours) == vars(theirs)
    assert list(vars(ours)) == list(vars(theirs))
