import pickle

import pytest
import torch

from fastclip.data.digits.grids import DigitGrids
from fastclip.data.digits.images import load_digits, split_by_image
from fastclip.data.digits.source import DigitSource
from tests.support.pair_files import assert_resumable, captions, read_all


def test_digits_are_a_fixed_draw_without_repetition():
    source = DigitSource(num_samples=300)
    items = read_all(source)
    assert len(set(captions(items))) == 300 and items[0].image.shape == (1, 16, 24)
    assert captions(read_all(DigitSource(num_samples=300))) == captions(items)
    assert captions(read_all(pickle.loads(pickle.dumps(source)))) == captions(items)
    held_out = captions(read_all(DigitSource(held_out=True)))
    assert len(held_out) == 1024 and set(held_out).isdisjoint(captions(items))


def test_every_draw_is_another_one_without_repetition():
    source = DigitSource(num_samples=250, pairs_per_draw=100)
    items = read_all(source)
    draws = [captions(items[start : start + 100]) for start in (0, 100, 200)]
    assert list(map(len, draws)) == [100, 100, 50]
    assert all(len(set(draw)) == len(draw) for draw in draws)
    assert len(set(map(tuple, draws))) == 3
    assert draws[0] == captions(read_all(DigitSource(num_samples=100)))


def test_draws_follow_each_other_from_one_generator():
    source = DigitSource(num_samples=300, pairs_per_draw=100, seed=3)
    grids, generator = DigitGrids(split_by_image(load_digits())[0]), torch.Generator()
    generator.manual_seed(3)
    drawn = [grids.draw(100, generator).captions for _ in range(3)]
    assert captions(read_all(source)) == drawn[0] + drawn[1] + drawn[2]


def test_samples_of_draws_are_the_same_in_any_order():
    made = {"num_samples": 250, "pairs_per_draw": 100, "seed": 3}
    source, other = DigitSource(**made), DigitSource(**made)
    items = read_all(source)
    for index in (249, 0, 120, 99, 100):
        for sample in (source.load(index), other.load(index)):
            assert sample.caption == items[index].caption
            assert torch.equal(sample.image, items[index].image)
    assert_resumable(source)


def test_more_pairs_than_one_draw_has_come_in_several():
    with pytest.raises(ValueError, match=r"num_pairs must be in \[1, 65536\], got 65537"):
        DigitSource(num_samples=65_537)
    assert len(DigitSource(num_samples=65_537, pairs_per_draw=64)) == 65_537


def test_contents_say_how_pairs_are_drawn():
    one = DigitSource(num_samples=64)
    several = DigitSource(num_samples=64, pairs_per_draw=32)
    assert one.contents() == [("digits", "64 pairs, drawn with seed 0")]
    assert several.contents() == [("digits", "64 pairs, drawn with seed 0 in draws of 32")]
