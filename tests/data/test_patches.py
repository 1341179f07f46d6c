"""Images as patches: transformers' processor's sizes and numbers, and padded batches of them."""

import functools
import importlib
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fastclip.data.patches import (
    MASK,
    PIXELS,
    SHAPES,
    collate_patches,
    num_patches_of,
    patched_size,
    patches_of,
    standardize_patches,
)
from fastclip.data.pixels import standardize
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from tests.support.images import encoded, random_image

CFG = PreprocessCfg(
    64, mean=0.5, std=0.5, interpolation="bilinear", resize_mode="naflex", patch_size=8
)
# Wide, tall, square, far too narrow, smaller than a patch, one pixel, exactly whole patches.
SHAPES_OF_IMAGES = [(50, 71), (171, 30), (90, 90), (3, 400), (5, 7), (1, 1), (64, 64)]


def image_of(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def test_sizes_are_those_of_transformers():
    from tests.support.peers import transformers

    name = f"{transformers.__name__}.models.siglip2.image_processing_pil_siglip2"
    expected_of = importlib.import_module(name).get_image_size_for_max_num_patches
    draw = random.Random(0)
    for _ in range(300):
        height, width = (int(2 ** draw.uniform(0, 13)) for _ in range(2))
        patch_size, most = draw.choice([1, 7, 14, 16, 32]), int(2 ** draw.uniform(0, 11))
        expected = expected_of(height, width, patch_size, most)
        assert patched_size(height, width, patch_size, most) == expected
        num = num_patches_of(height, width, patch_size, most)
        assert num == expected[0] * expected[1] // patch_size**2 <= most
        assert num == num_patches_of(width, height, patch_size, most)


def test_batch_is_that_of_transformers_processor():
    from tests.support.peers import transformers

    theirs = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=64)
    images = [image_of(*shape) for shape in SHAPES_OF_IMAGES]
    expected = theirs(images, return_tensors="pt")
    transform = image_transform_v2(CFG, is_train=False)
    batch = collate_patches([transform(image) for image in images], 8, num_patches=64)
    assert torch.equal(batch[SHAPES], expected[SHAPES])
    assert torch.equal(batch[MASK], expected[MASK].bool())
    torch.testing.assert_close(batch[PIXELS], expected[PIXELS].float(), rtol=0, atol=3e-7)
    # Pixels that leave unnormalised, for the device to do the rest.
    transform = image_transform_v2(CFG, is_train=False, output="uint8")
    pixels = collate_patches([transform(image) for image in images], 8, num_patches=64)
    assert pixels[PIXELS].dtype == torch.uint8
    again = standardize_patches(pixels, CFG.mean, CFG.std, torch.float32)
    assert torch.equal(again[PIXELS], batch[PIXELS])


def test_standardized_patches_are_patches_of_standardized_images():
    pixels = torch.randint(0, 256, (1, 3, 16, 24)).byte()
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    expected = patches_of(standardize(pixels, mean, std), 8)
    batch = collate_patches([pixels[0]], 8, num_patches=9)
    found = standardize_patches(batch, mean, std, torch.float32)[PIXELS]
    assert torch.equal(found[:, :6], expected) and not found[:, 6:].any()


def test_patches_stand_row_by_row_with_channels_last():
    image = torch.arange(2 * 4 * 6).view(1, 2, 4, 6)
    patches = patches_of(image, 2)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 4].tolist() == [14, 38, 15, 39, 20, 44, 21, 45]  # second row, second column


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": []}, "images must be a sequence of at least one image"),
        ({"images": [torch.zeros(3, 8, 12)]}, r"multiples of patch_size = 8, got \(3, 8, 12\)"),
        ({"images": [torch.zeros(1, 3, 8, 8)]}, r"images must be \(C, H, W\)"),
        ({"images": [torch.zeros(3, 8, 8), torch.zeros(3, 8, 8).byte()]}, "one dtype"),
        ({"images": [torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)]}, "number of channels, got 3"),
        ({"num_patches": 3}, "num_patches must be at least 4 for these images, got 3"),
    ],
    ids=str,
)
def test_images_that_are_no_batch_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        collate_patches(**{"images": [torch.zeros(3, 16, 16)], "patch_size": 8} | change)


@pytest.mark.parametrize("name", ["height", "width", "patch_size", "max_num_patches"])
def test_sizes_that_are_not_positive_are_refused_by_name(name):
    sizes = dict(height=1, width=1, patch_size=1, max_num_patches=1)
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        patched_size(**sizes | {name: 0})


def test_settings_know_what_they_mean_and_survive_json():
    assert CFG.patches == (8, 64) and PreprocessCfg(32).patches is None
    assert PreprocessCfg.from_dict(CFG.to_dict()) == CFG
    assert "patch_size" not in PreprocessCfg(32).to_dict()
    assert CFG.with_size(64) == CFG
    assert CFG.with_size((32, 64)).patches == (8, 32)
    few = PreprocessCfg.from_dict(CFG.to_dict() | {"max_num_patches": 10})
    assert few.with_size(64) == few and few.with_size(32).patches == (8, 16)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"patch_size": 65}, "patch_size must be from 1"),
        ({"patch_size": 2.5}, "patch_size must be from 1"),
        ({"max_num_patches": 0}, "max_num_patches must be from 1"),
        ({"max_num_patches": 10**9}, "max_num_patches must be from 1"),
        ({"shortest_edge": 64}, "shortest_edge must be None with 'naflex'"),
        ({"resize_mode": "squash"}, "patch_size must be None without 'naflex', got 8"),
        ({"resize_mode": "squash", "patch_size": None, "max_num_patches": 4}, "max_num_patches"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        PreprocessCfg.from_dict(CFG.to_dict() | change)


def test_reduced_decoding_leaves_twice_the_pixels():
    fast = image_transform_v2(CFG, False, output="uint8", decode="fast")
    assert fast.transforms[0].least_side == 2 * 64
    image = encoded(random_image("RGB", 512, 256), "JPEG")
    assert fast.transforms[0](image).size == (256, 128)
    assert fast(image).shape[1:] == patched_size(256, 512, 8, 64)
    more = PreprocessCfg.from_dict(CFG.to_dict() | {"max_num_patches": 400})
    train = image_transform_v2(more, True, {"scale": (1.0, 1.0), "ratio": (1, 1)}, decode="fast")
    assert train.transforms[0].least_side == 2 * 20 * 8


def test_training_views_keep_their_aspect_ratio():
    torch.manual_seed(0)
    transform = image_transform_v2(CFG, True, {"scale": (0.5, 0.6)}, output="uint8")
    wide = Image.fromarray(np.arange(200 * 50 * 3, dtype=np.uint8).reshape(50, 200, 3))
    views = [transform(wide) for _ in range(3)]
    assert all(view.shape == (3, 32, 128) for view in views)
    assert not torch.equal(views[0], views[1])
    square = image_transform_v2(CFG, True, {"scale": (0.1, 0.1), "ratio": (1, 1)}, output="uint8")
    assert square(wide).shape == (3, 64, 64)


def test_data_loader_makes_batches_of_a_data_set_of_images():
    transform = image_transform_v2(CFG, is_train=False)
    data = [transform(image_of(*shape)) for shape in SHAPES_OF_IMAGES]
    loader = DataLoader(data, 3, collate_fn=functools.partial(collate_patches, patch_size=8))
    assert [len(batch[MASK]) for batch in loader] == [3, 3, 1]
