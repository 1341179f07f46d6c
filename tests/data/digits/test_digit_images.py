import pytest
import torch

from fastclip.data.digits.images import (
    DIGIT_MEAN,
    DIGIT_STD,
    LabeledImages,
    load_digits,
    split_by_image,
)
from fastclip.data.pixels import standardize


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_load_digits_returns_every_image_with_its_label(digits):
    assert digits.images.shape == (1797, 8, 8)
    assert digits.images.dtype == torch.uint8
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    assert digits.labels[:10].tolist() == list(range(10))


def test_mean_and_deviation_are_those_of_the_pixels(digits):
    images = standardize(digits.images, DIGIT_MEAN, DIGIT_STD)
    assert abs(images.mean().item()) < 0.01
    assert abs(images.std().item() - 1) < 0.01


def test_split_shares_no_image(digits):
    train, test = split_by_image(digits)
    train_rows = {bytes(image.flatten().tolist()) for image in train.images}
    test_rows = {bytes(image.flatten().tolist()) for image in test.images}
    assert not train_rows & test_rows
    assert len(train.images) + len(test.images) == len(digits.images)
    assert len(train_rows) + len(test_rows) == len(digits.images)  # no two images are the same


def test_split_keeps_labels_with_their_images(digits):
    label_of = {
        bytes(image.flatten().tolist()): label.item() for image, label in zip(*digits, strict=True)
    }
    for part in split_by_image(digits):
        for image, label in zip(*part, strict=True):
            assert label_of[bytes(image.flatten().tolist())] == label


def test_split_takes_the_same_share_of_every_class(digits):
    _, test = split_by_image(digits, test_fraction=0.2)
    share = test.labels.bincount() / digits.labels.bincount()
    assert ((share - 0.2).abs() < 0.01).all()


def test_split_is_decided_by_the_seed(digits):
    first, again, other = (split_by_image(digits, seed=seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.labels, other.labels)


@pytest.mark.parametrize("test_fraction", [0, 1, -0.1, 1.5])
def test_split_rejects_fraction_outside_the_open_interval(test_fraction):
    digits = LabeledImages(torch.zeros(2, 8, 8, dtype=torch.uint8), torch.zeros(2).long())
    with pytest.raises(ValueError, match="test_fraction"):
        split_by_image(digits, test_fraction=test_fraction)
