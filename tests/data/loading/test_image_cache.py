"""Images that are kept decoded: the same pixels, whatever is kept, lost or written at once."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data.loading.image_cache import CHECKSUM, HEIGHT, ImageCache
from fastclip.data.loading.loader import PairLoader
from fastclip.data.loading.stream import Address
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.data.randomness import seed_generators
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.source import Part, first_numbers

SIZES = [(40, 30), (31, 64), (90, 91), (8, 8)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cached")
    random = np.random.default_rng(0)
    for i in range(12):
        height, width = SIZES[i % 4]
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    rows = "".join(f"{i}.jpg,words {i}\n" for i in range(12))
    (folder / "pairs.csv").write_text("filepath,title\n" + rows)
    return folder / "pairs.csv"


def transform(decode="exact"):
    return image_transform_v2(PreprocessCfg(size=16), True, None, "uint8", decode)


def tokens(texts):
    return torch.tensor([[len(text)] for text in texts])


def batches(table, cache, num_workers=0, epochs=2):
    loader = PairLoader(
        CsvSource(table), transform(), tokens, batch_size=4, num_workers=num_workers,
        batches_per_epoch=3, image_cache=cache, start_method="fork" if num_workers else None,
    )  # fmt: skip
    found = [batch.images for _ in range(epochs) for batch in loader]
    loader.close()
    return torch.stack(found)


@pytest.mark.parametrize("num_bytes", [2**20, 9_000, 1])
def test_batches_are_to_the_bit_those_without_a_cache(table, num_bytes):
    cache = ImageCache([0], 12, num_bytes)
    assert torch.equal(batches(table, cache), batches(table, None))
    assert cache.bytes_kept <= num_bytes
    # 12 images of 41,778 bytes: all, some, none
    assert (cache.num_kept == 12) == (num_bytes > 80_000) and (cache.num_kept > 0) == (
        num_bytes > 1
    )


@pytest.mark.slow
def test_workers_share_what_they_keep(table):
    cache = ImageCache([0], 12, 2**20, num_writers=2)
    found = batches(table, cache, num_workers=2)
    assert cache.num_kept == 12  # as this process sees it, which has decoded nothing
    assert torch.equal(found, batches(table, None, num_workers=2))


@pytest.mark.parametrize("decode", ["exact", "fast"])
def test_an_image_is_decoded_once(table, decode, monkeypatch):
    part, own = ImageCache([0], 12, 2**20).part(0), transform(decode)
    path = os.fspath(table.with_name("2.jpg"))

    def view():
        seed_generators(0, "a view")
        return part.transform(Address(0, 0, 3), own, path)

    first = view()
    seed_generators(0, "a view")
    assert torch.equal(first, own(path))
    monkeypatch.setattr("fastclip.data.transform_steps.load_image", None)
    assert torch.equal(view(), first)


def test_what_is_torn_or_overwritten_is_decoded_anew():
    cache, address = ImageCache([0, 5], 9, 2**12), Address(1, 0, 2)
    image = Image.new("RGB", (6, 4), (1, 2, 3))
    cache.keep(address, image, 0)
    assert np.array_equal(cache.find(address), np.asarray(image))
    assert cache.find(Address(0, 0, 2)) is None
    for spoil in (
        lambda: cache._pixels.__setitem__(5, 77),
        lambda: cache._rows[7].__setitem__(HEIGHT, 3),
        lambda: cache._rows[7].__setitem__(HEIGHT, 2**40),
        lambda: cache._rows[7].__setitem__(CHECKSUM, 1),
    ):
        cache.keep(address, image, 0)
        kept = cache._pixels.copy(), cache._rows.copy()
        cache._filled[0] = 0
        cache.keep(address, image, 0)
        spoil()
        assert cache.find(address) is None
        cache._pixels[:], cache._rows[:] = kept


def test_writers_keep_to_their_shares():
    cache = ImageCache([0], 8, 2 * 100, num_writers=2)
    images = [Image.new("RGB", (4, 4), (i, i, i)) for i in range(8)]
    for i, image in enumerate(images):
        cache.keep(Address(0, 0, i), image, writer=i % 2)
    kept = [i for i in range(8) if cache.find(Address(0, 0, i)) is not None]
    assert kept == [0, 1, 2, 3]  # two of 48 bytes fit into 100
    assert all(np.array_equal(cache.find(Address(0, 0, i)), np.asarray(images[i])) for i in kept)


@pytest.mark.parametrize("name", ["num_samples", "num_bytes", "num_writers"])
def test_arguments_are_named(name):
    values = {"num_samples": 1, "num_bytes": 1, "num_writers": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ImageCache([0], **values)


def test_first_numbers_are_of_parts_that_say_their_lengths():
    parts = [Part("a", 0, 9, 3), Part("a", 9, 20, 2), Part("b", 0, 9, 4)]
    assert first_numbers(parts) == [0, 3, 5]
    assert first_numbers([*parts, Part("c")]) is None


def test_what_a_part_should_not_have_takes_no_row_of_the_next():
    cache = ImageCache([0, 5], 9, 2**12)  # the first part holds more than the 5 that are stated
    first, second = (Image.new("RGB", (6, 4), (i, i, i)) for i in (1, 2))
    cache.keep(Address(1, 0, 0), second, 0)
    for number in (5, 7):
        cache.keep(Address(0, 0, number), first, 0)
        assert cache.find(Address(0, 0, number)) is None
    assert np.array_equal(cache.find(Address(1, 0, 0)), np.asarray(second))
    cache.keep(Address(1, 0, 4), first, 0)  # behind the last row
    assert cache.find(Address(1, 0, 4)) is None and cache.num_kept == 1
