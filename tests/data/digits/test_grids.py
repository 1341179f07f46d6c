import pytest
import torch

from fastclip.data.digits.grids import (
    BLANK,
    CELL_NAMES,
    CELLS,
    DigitGrids,
    captions_of,
    is_held_out,
    place_alone,
)
from fastclip.data.digits.images import DIGIT_WORDS, LabeledImages, load_digits, split_by_image


@pytest.fixture(scope="module")
def split():
    return split_by_image(load_digits())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cells_of(image):
    """The six 8 x 8 cells of a (1, 16, 24) image, cut out by hand."""
    return [image[0, y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8, 16)]


def as_bytes(image):
    return bytes(image.flatten().tolist())


def test_images_show_what_their_captions_say(split):
    train, _ = split
    label_of = {as_bytes(i): label for i, label in zip(train.images, train.labels, strict=True)}
    pairs = DigitGrids(train).draw(300, generator())
    for image, caption in zip(pairs.images, pairs.captions, strict=True):
        phrases = []
        for name, cell in zip(CELL_NAMES, cells_of(image), strict=True):
            if cell.any():
                phrases.append(f"{name} {DIGIT_WORDS[label_of[as_bytes(cell)]]}")
        assert caption == ", ".join(phrases)
        assert 1 <= len(phrases) <= 4


def test_images_use_only_the_digits_given(split):
    train, test = split
    test_images = {as_bytes(image) for image in test.images}
    pairs = DigitGrids(train).draw(2048, generator())
    used = {as_bytes(cell) for image in pairs.images for cell in cells_of(image)}
    assert not used & test_images
    assert len(used) > 1300  # nearly every training digit, so that the above means something


@pytest.mark.parametrize("num_pairs", [2, 2048, 32768])
def test_captions_of_a_batch_are_distinct(split, num_pairs):
    pairs = DigitGrids(split[0]).draw(num_pairs, generator())
    assert len(pairs.captions) == len(pairs.images) == num_pairs
    assert len(set(pairs.captions)) == num_pairs


def test_different_arrangements_have_different_captions():
    arrangements = torch.cartesian_prod(*[torch.tensor([0, 1, BLANK])] * CELLS)
    assert len(set(captions_of(arrangements))) == 3**CELLS


def test_held_out_arrangements_are_never_trained_on(split):
    train, test = split
    trained = set(DigitGrids(train).draw(65536, generator()).captions)
    unseen = set(DigitGrids(test, held_out=True).draw(1000, generator()).captions)
    assert not trained & unseen


def test_is_held_out_sums_the_digits_and_spares_lone_ones():
    arrangements = torch.full((4, CELLS), BLANK)
    arrangements[0, 0] = 0  # a lone zero
    arrangements[1, :2] = torch.tensor([3, 7])
    arrangements[2, :2] = torch.tensor([3, 8])
    arrangements[3, 2:] = torch.tensor([9, 9, 9, 3])
    assert is_held_out(arrangements).tolist() == [False, True, False, True]


def test_draw_is_decided_by_the_generator(split):
    grids = DigitGrids(split[0])
    first, again, other = (grids.draw(64, generator(seed)) for seed in (0, 0, 1))
    assert first.captions == again.captions
    assert torch.equal(first.images, again.images)
    assert first.captions != other.captions


def test_place_alone_leaves_the_other_cells_blank(split):
    images, cells = split[1].images[:CELLS], torch.arange(CELLS)
    for i, image in enumerate(place_alone(images, cells)):
        for j, cell in enumerate(cells_of(image)):
            assert torch.equal(cell, images[i] if i == j else torch.zeros_like(cell))


@pytest.mark.parametrize("held_out, num_pairs", [(False, 0), (False, 65537), (True, 8193)])
def test_draw_rejects_sizes_that_it_cannot_make_distinct(split, held_out, num_pairs):
    with pytest.raises(ValueError, match=f"num_pairs .* got {num_pairs}"):
        DigitGrids(split[0], held_out).draw(num_pairs, generator())


def test_grids_name_the_digit_they_have_no_image_of(split):
    train, _ = split
    keep = train.labels != 7
    with pytest.raises(ValueError, match="seven"):
        DigitGrids(LabeledImages(train.images[keep], train.labels[keep]))
