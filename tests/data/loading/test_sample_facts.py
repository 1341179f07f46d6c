"""Batches that say more of their samples: which they are of the source, and which are the same."""

import pytest
import torch
from PIL import Image

from fastclip.data.loading.loader import PairLoader
from fastclip.data.loading.sample_facts import image_id
from fastclip.data.preprocess import image_transform
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import IndexedSource
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import image_bytes, in_process, to_text, to_tokens, write_shards


class Counted(IndexedSource):
    """150 samples with their numbers as captions; every eleventh is bad."""

    def __len__(self) -> int:
        return 150

    def load(self, index: int) -> Sample | BadSample:
        if index % 11 == 10:
            return BadSample(str(index), "planted")
        return Sample(str(index), torch.zeros((1, 2, 2), dtype=torch.uint8), str(index))


def loader_of(source=None, transform=None, **settings) -> PairLoader:
    settings = {
        "batch_size": 4,
        "shuffle_buffer": 20,
        "facts": ["numbers"],
        "max_bad_rate": 0.5,
    } | settings
    return in_process(PairLoader(source or Counted(), transform, to_tokens, **settings))


def captions(batch) -> list[int]:
    return [int(to_text(row)) for row in batch.tokens]


@pytest.mark.parametrize("num_workers, world_size", [(0, 1), (2, 1), (2, 3)])
def test_numbers_are_those_of_the_source_in_every_pass(num_workers, world_size):
    settings = {"num_workers": num_workers, "world_size": world_size, "drop_last": False}
    loaders = [loader_of(rank=rank, **settings) for rank in range(world_size)]
    for _ in range(2):
        seen = []
        for batch in (batch for loader in loaders for batch in loader):
            assert batch.facts["numbers"].dtype == torch.int64
            assert batch.facts["numbers"].tolist() == captions(batch)
            seen += batch.facts["numbers"].tolist()
        assert sorted(seen) == [i for i in range(150) if i % 11 != 10]


def test_numbers_of_a_loader_that_goes_on_are_those_that_would_have_followed():
    loader = loader_of()
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    resumed = loader_of()
    resumed.load_state_dict(loader.state_dict())
    rest = [batch.facts["numbers"].tolist() for batch in batches]
    assert rest and [batch.facts["numbers"].tolist() for batch in resumed] == rest


def test_numbers_of_a_table_are_those_of_its_rows(tmp_path):
    (tmp_path / "0.png").write_bytes(image_bytes(0))
    rows = [f"0.png\t{i}" for i in range(70)]  # more than one part
    (tmp_path / "t.tsv").write_text("\n".join(["filepath\ttitle", *rows]))
    transform = image_transform(8, True, output="uint8")
    loader = loader_of(CsvSource(tmp_path / "t.tsv"), transform, batch_size=35)
    assert all(batch.facts["numbers"].tolist() == captions(batch) for batch in loader)


def test_batches_without_numbers_are_as_they_were_and_data_without_a_length_has_none(tmp_path):
    images, tokens, keys = next(iter(loader_of(facts=())))
    assert len(images) == len(tokens) == len(keys) == 4
    write_shards(tmp_path, [3, 3])
    with pytest.raises(ValueError, match="facts must not have 'numbers' for data that does not"):
        loader_of(TarSource(str(tmp_path)))


class Repeating(IndexedSource):
    """120 samples: 20 captions, and 30 images of different pixels, as tensors, files and bytes."""

    def __init__(self, folder) -> None:
        self.paths = [folder / f"{i}.png" for i in range(30)]
        for i, path in enumerate(self.paths):
            path.write_bytes(image_bytes(i))
        self.files = [path.read_bytes() for path in self.paths]

    def __len__(self) -> int:
        return 120

    def load(self, index: int) -> Sample:
        image = str(self.paths[index % 30]) if index < 60 else self.files[index % 30]
        return Sample(str(index), image, str(index % 20))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ids_are_equal_where_captions_and_images_are(tmp_path, num_workers):
    transform = image_transform(8, True, output="uint8")  # augments
    loader = loader_of(
        Repeating(tmp_path), transform, facts=["caption_ids", "image_ids", "numbers"],
        num_workers=num_workers, drop_last=False,
    )  # fmt: skip
    batches = [batch.facts for batch in loader]
    captions, images, numbers = (
        torch.cat([facts[name] for facts in batches])
        for name in ("caption_ids", "image_ids", "numbers")
    )
    assert torch.equal(captions[:, None] == captions, numbers[:, None] % 20 == numbers % 20)
    assert torch.equal(images[:, None] == images, numbers[:, None] % 30 == numbers % 30)


def test_ids_are_the_same_in_every_process():
    pixels = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
    assert image_id(b"a file") == 2796225971940435444
    assert image_id(pixels) == -6761703563044468382
    assert image_id(pixels) != image_id(pixels.view(1, 4, 3))


def test_ids_of_images_are_of_what_is_seen():
    red, blue = (Image.new("RGB", (8, 8), colour).convert("P") for colour in ("red", "blue"))
    for image in (red, blue):
        image.putdata([0] * 64)  # one number, of two palettes
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert image_id(red) == image_id(red.convert("RGB")) != image_id(blue)


def test_batches_in_the_order_of_ids_have_the_same_samples():
    """Also where the last pieces of several workers are put together."""
    settings = {"facts": ["caption_ids", "numbers"], "num_workers": 2, "drop_last": False}
    drawn = [batch for batch in loader_of(**settings)]
    ordered = [batch for batch in loader_of(in_order_of="caption_ids", **settings)]
    for one, other in zip(drawn[:-3], ordered[:-3], strict=True):
        order = one.facts["caption_ids"].argsort()
        assert torch.equal(one.facts["caption_ids"][order], other.facts["caption_ids"])
        assert torch.equal(one.tokens[order], other.tokens)
        assert [one.keys[i] for i in order] == other.keys
        assert other.facts["numbers"].tolist() == captions(other)
    numbers = [
        sorted(torch.cat([batch.facts["numbers"] for batch in batches]).tolist())
        for batches in (drawn, ordered)
    ]
    assert numbers[0] == numbers[1]


def test_unknown_facts_and_orders_are_refused():
    with pytest.raises(ValueError, match=r"facts must be out of .*, got 'names'"):
        loader_of(facts=["names"])
    with pytest.raises(ValueError, match=r"in_order_of must be one of facts, .*, got 'numbers'"):
        loader_of(facts=["caption_ids"], in_order_of="numbers")


def test_an_image_that_is_gone_before_its_id_is_found_is_a_bad_sample(tmp_path):
    source = Repeating(tmp_path)

    def transform(path):
        source.paths[3].unlink(missing_ok=True)
        return torch.zeros((3, 8, 8), dtype=torch.uint8)

    loader = loader_of(source, transform, facts=["image_ids"], drop_last=False)
    num = sum(len(batch.keys) for batch in loader)
    assert loader.bad_samples.counts == {
        "missing image file": 2,
    }
    assert num == 118
