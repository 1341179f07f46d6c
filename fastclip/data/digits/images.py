"""Handwritten digits: 1,797 real images of 8 x 8 pixels that come with scikit-learn.

They are split by image, within each class, before grids are made of them: no digit that a model is
tested on was part of any training image.

Source: E. Alpaydin and C. Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository; the part that `sklearn.datasets.load_digits` ships.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.installation import install_command

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_SIZE = 8  # pixels, both sides
BRIGHTEST = 16  # the largest of scikit-learn's pixel values
# Mean and standard deviation of the digits' pixels, in units of the full range.
DIGIT_MEAN, DIGIT_STD = 0.305, 0.376


class LabeledImages(NamedTuple):
    images: Tensor  # (N, 8, 8) uint8
    labels: Tensor  # (N,) int64, the digit


def load_digits() -> LabeledImages:
    """Return all 1,797 digits, pixels stretched from 0..16 to 0..255.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The digits come with scikit-learn: {install_command('demo', 'scikit-learn')}"
        ) from error
    bunch = datasets.load_digits()
    pixels = torch.from_numpy(bunch.images) * (255 / BRIGHTEST)
    return LabeledImages(pixels.round().to(torch.uint8), torch.from_numpy(bunch.target).long())


def split_by_image(
    digits: LabeledImages, test_fraction: float = 0.2, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Split into train and test, every class in the same proportion, no image in both.

    Args:
        digits: (N, 8, 8) images and (N,) labels.
        test_fraction: fraction of each class that goes to test, in (0, 1).
        seed: decides which images are tested; reported figures are for the default split.

    Raises:
        ValueError: `test_fraction` is outside (0, 1).
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be in (0, 1), got {test_fraction}")
    generator = torch.Generator().manual_seed(seed)
    is_test = torch.zeros(len(digits.labels), dtype=torch.bool)
    for label in digits.labels.unique():
        members = (digits.labels == label).nonzero().squeeze(1)
        shuffled = members[torch.randperm(len(members), generator=generator)]
        is_test[shuffled[: round(test_fraction * len(members))]] = True
    train = LabeledImages(digits.images[~is_test], digits.labels[~is_test])
    return train, LabeledImages(digits.images[is_test], digits.labels[is_test])
