"""Preprocessing beside open_clip's: equal bits, and each reads the other's settings."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data import preprocess
from fastclip.data.preprocess import PreprocessCfg, image_transform
from tests.support.images import random_image
from tests.support.peers import open_clip

SHAPES = [
    (1, 1), (1, 500), (500, 1), (223, 225), (224, 224), (225, 223), (640, 480), (481, 333),
    (60, 40), (1900, 60), (7, 3),
]  # fmt: skip
MODES = ["RGB", "L", "LA", "RGBA", "CMYK", "1"]
RESIZE_MODES = ["shortest", "longest", "squash"]


def assert_bit_identical_to_open_clip(shapes, size, mode="RGB", **settings):
    height, width = (size, size) if isinstance(size, int) else size
    ours = image_transform(size, is_train=False, **settings)
    theirs = open_clip.transform.image_transform(size, is_train=False, **settings)
    for shape in shapes:
        image = random_image(mode, *shape)
        result = ours(image)
        try:
            expected = theirs(image)
        except ValueError:  # see the test of slivers
            assert settings["resize_mode"] == "longest"
            assert min(shape) / max(shape[0] / width, shape[1] / height) <= 0.5
            continue
        assert torch.equal(result, expected), (shape, size, mode, settings)
        assert (result.dtype, result.is_contiguous()) == (torch.float32, True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_default_evaluation_is_bit_identical_to_open_clips(shape):
    assert_bit_identical_to_open_clip([shape], 224)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
def test_evaluation_of_every_mode_is_bit_identical_to_open_clips(mode, resize_mode):
    assert_bit_identical_to_open_clip(SHAPES, 48, mode, resize_mode=resize_mode)
    assert_bit_identical_to_open_clip(SHAPES, (36, 52), mode, resize_mode=resize_mode)


@pytest.mark.parametrize("size", [48, (48, 48), (36, 52), (97, 33), [33, 97], 1])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
def test_evaluation_at_every_size_is_bit_identical_to_open_clips(size, interpolation, resize_mode):
    assert_bit_identical_to_open_clip(
        SHAPES, size, resize_mode=resize_mode, interpolation=interpolation
    )


def test_evaluation_of_random_shapes_is_bit_identical_to_open_clips():
    generator = np.random.default_rng(0)
    for i in range(200):
        shape, size = generator.integers(1, 70, 2).tolist(), generator.integers(1, 50, 2).tolist()
        size = size if i % 2 else size[0]
        assert_bit_identical_to_open_clip([shape], size, resize_mode=RESIZE_MODES[i % 3])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fill_color", [0, 128, 255])
def test_padding_is_bit_identical_to_open_clips(mode, fill_color):
    shapes = [(60, 40), (40, 61), (225, 223)]
    assert_bit_identical_to_open_clip(
        shapes, 48, mode, resize_mode="longest", fill_color=fill_color
    )


@pytest.mark.parametrize("mean_std", [(0.5, 0.5), ((0.1, 0.2, 0.3), [0.4, 0.5, 0.6])], ids=str)
def test_normalisation_is_bit_identical_to_open_clips(mean_std):
    mean, std = mean_std
    assert_bit_identical_to_open_clip([(60, 40)], 48, mean=mean, std=std)


# Where open_clip fails or is wrong


@pytest.mark.parametrize("shape", [(1, 500), (500, 1)])
def test_sliver_keeps_one_pixel_where_open_clip_fails(shape):
    image = Image.new("L", shape, 255)
    with pytest.raises(ValueError, match="height and width must be > 0"):
        open_clip.transform.image_transform(48, False, resize_mode="longest")(image)
    assert image_transform(48, False, resize_mode="longest")(image).shape == (3, 48, 48)


def test_palette_is_looked_up_before_resizing():
    image = random_image("P", 60, 40)
    theirs = open_clip.transform.image_transform(48, False)
    result = image_transform(48, False)(image)
    assert torch.equal(result, theirs(image.convert("RGB")))
    assert not torch.equal(result, theirs(image))


def test_16_bit_grey_is_scaled_and_not_clipped():
    image = random_image("I;16", 60, 40)
    theirs = open_clip.transform.image_transform(48, False)
    levels = np.round(np.asarray(image) / 257).astype(np.uint8)
    result = image_transform(48, False)(image)
    assert torch.equal(result, theirs(Image.fromarray(levels)))
    assert theirs(image).mean() > 1.5 > result.mean()  # nearly white


def test_mean_of_zero_is_not_taken_for_none():
    image = random_image("RGB", 60, 40)
    theirs = open_clip.transform.image_transform(48, False, mean=0, std=1)
    result = image_transform(48, False, mean=0, std=1)(image)
    assert not torch.equal(result, theirs(image))
    assert torch.equal(
        result, open_clip.transform.image_transform(48, False, mean=(0, 0, 0), std=1)(image)
    )


# Settings


def test_constants_are_open_clips():
    names = [f"{data}_{part}" for data in ("OPENAI_DATASET", "IMAGENET", "INCEPTION")
             for part in ("MEAN", "STD")]  # fmt: skip
    for name in names:
        assert getattr(preprocess, name) == getattr(open_clip.constants, name)


def test_settings_and_open_clips_read_each_others_json():
    theirs = open_clip.transform.PreprocessCfg(
        size=(36, 52), mean=(0.1, 0.2, 0.3), interpolation="bilinear", resize_mode="squash"
    )
    ours = PreprocessCfg.from_dict(json.loads(json.dumps(asdict(theirs))))
    assert ours.to_dict() == asdict(theirs)
    assert open_clip.transform.PreprocessCfg(**ours.to_dict()) == theirs
    assert PreprocessCfg().to_dict() == asdict(open_clip.transform.PreprocessCfg())


def test_empty_keys_have_their_defaults_as_in_open_clip():
    values = {"size": [36, 52], "std": [0.5] * 3, "interpolation": None}
    theirs = open_clip.transform.merge_preprocess_dict(open_clip.transform.PreprocessCfg(), values)
    assert PreprocessCfg.from_dict(values) == PreprocessCfg.from_dict(theirs)
    assert PreprocessCfg.from_dict(values).height_width == (36, 52)


def test_unknown_keys_are_refused_where_open_clip_reads_past_them():
    with pytest.raises(ValueError, match="unsupported fields: crop_pct, image_size"):
        PreprocessCfg.from_dict({"size": 32, "image_size": 7, "crop_pct": 0.9})


def test_what_open_clip_saves_with_a_model_is_read():
    saved = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
             "resize_mode": "squash"}  # fmt: skip
    assert PreprocessCfg.from_dict(saved) == PreprocessCfg(
        mean=0.5, std=preprocess.INCEPTION_STD, resize_mode="squash"
    )
