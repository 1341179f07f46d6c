import pytest
import torch

from fastclip.data.digits import load_digits
from fastclip.data.pixels import standardize


def test_standardized_digits_have_mean_zero_and_deviation_one():
    images = standardize(load_digits().images)
    assert images.dtype == torch.float32
    assert abs(images.mean().item()) < 0.01
    assert abs(images.std().item() - 1) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.bool])
def test_standardize_rejects_what_are_not_stored_pixels(dtype):
    with pytest.raises(TypeError, match="uint8"):
        standardize(torch.zeros(2, 8, 8, dtype=dtype))
