import pytest
import torch

from fastclip.data.pixels import standardize
from fastclip.data.preprocess import OPENAI_DATASET_MEAN as MEAN
from fastclip.data.preprocess import OPENAI_DATASET_STD as STD

LEVELS = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)


@pytest.mark.parametrize("given", [{}, {"mean": MEAN}, {"std": STD}])
def test_standardize_knows_no_statistics_of_its_own(given):
    missing = " and ".join(f"'{name}'" for name in ("mean", "std") if name not in given)
    with pytest.raises(TypeError, match=f"missing .* required positional arguments?: {missing}"):
        standardize(LEVELS, **given)


def test_standardize_is_the_formula_for_every_pixel_and_channel():
    result = standardize(LEVELS, MEAN, STD)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        assert torch.equal(result[channel, 0], (LEVELS[channel, 0].float() / 255 - mean) / std)


def test_standardize_takes_lists_and_single_numbers():
    expected = (LEVELS.float() / 255 - 0.305) / 0.376
    for mean, std in [(0.305, 0.376), ([0.305] * 3, 0.376), (0.305, (0.376,) * 3)]:
        assert torch.equal(standardize(LEVELS, mean, std), expected)


def test_standardize_takes_batches_and_leaves_them_as_they_are():
    images = torch.randint(256, (2, 5, 3, 4, 6), dtype=torch.uint8)
    before = images.clone()
    result = standardize(images, MEAN, STD)
    assert torch.equal(result[1, 3], standardize(images[1, 3], MEAN, STD))
    assert torch.equal(images, before)


def test_standardize_keeps_the_memory_format():
    images = torch.randint(256, (2, 3, 4, 6), dtype=torch.uint8)
    channels_last = images.to(memory_format=torch.channels_last)
    result = standardize(channels_last, MEAN, STD)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, standardize(images, MEAN, STD))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_standardize_rounds_to_16_bits_once(dtype):
    result = standardize(LEVELS, MEAN, STD, dtype)
    assert result.dtype == dtype
    assert torch.equal(result, standardize(LEVELS, MEAN, STD).to(dtype))


def test_standardize_computes_in_float64_where_that_is_asked_for():
    expected = (LEVELS.double() / 255 - 0.305) / 0.376
    assert torch.equal(standardize(LEVELS, 0.305, 0.376, torch.float64), expected)


def test_standardize_runs_on_the_device_of_the_images():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8, device="meta")
    result = standardize(images, MEAN, STD, torch.bfloat16)
    assert (result.device, result.shape) == (images.device, images.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.bool])
def test_standardize_rejects_what_are_not_stored_pixels(dtype):
    with pytest.raises(TypeError, match="uint8"):
        standardize(torch.zeros(2, 8, 8, dtype=dtype), 0.5, 0.5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.complex64])
def test_standardize_rejects_a_result_that_is_not_floating(dtype):
    with pytest.raises(TypeError, match="dtype must be a floating type"):
        standardize(LEVELS, MEAN, STD, dtype=dtype)


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("shape", [(4, 8, 8), (8, 3), (8, 8, 3)])
def test_standardize_rejects_another_number_of_channels(shape, name):
    with pytest.raises(ValueError, match=f"{name} must be one number or one per channel"):
        given = {"mean": 0.5, "std": 0.5} | {name: (0.5, 0.5, 0.5)}
        standardize(torch.zeros(shape, dtype=torch.uint8), **given)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), (1.0, 0.0, 1.0)])
def test_standardize_rejects_a_deviation_that_is_not_positive(std):
    with pytest.raises(ValueError, match="std must be positive"):
        standardize(LEVELS, 0.5, std)
