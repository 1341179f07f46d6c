"""Batches that say which samples of the source they have."""

import pytest
import torch

from fastclip.data.loading.loader import PairLoader
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
        "numbered": True,
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
            assert batch.numbers.dtype == torch.int64
            assert batch.numbers.tolist() == captions(batch)
            seen += batch.numbers.tolist()
        assert sorted(seen) == [i for i in range(150) if i % 11 != 10]


def test_numbers_of_a_loader_that_goes_on_are_those_that_would_have_followed():
    loader = loader_of()
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    resumed = loader_of()
    resumed.load_state_dict(loader.state_dict())
    rest = [batch.numbers.tolist() for batch in batches]
    assert rest and [batch.numbers.tolist() for batch in resumed] == rest


def test_numbers_of_a_table_are_those_of_its_rows(tmp_path):
    (tmp_path / "0.png").write_bytes(image_bytes(0))
    rows = [f"0.png\t{i}" for i in range(70)]  # more than one part
    (tmp_path / "t.tsv").write_text("\n".join(["filepath\ttitle", *rows]))
    transform = image_transform(8, True, output="uint8")
    loader = loader_of(CsvSource(tmp_path / "t.tsv"), transform, batch_size=35)
    assert all(batch.numbers.tolist() == captions(batch) for batch in loader)


def test_batches_without_numbers_are_as_they_were_and_data_without_a_length_has_none(tmp_path):
    images, tokens, keys = next(iter(loader_of(numbered=False)))
    assert len(images) == len(tokens) == len(keys) == 4
    write_shards(tmp_path, [3, 3])
    with pytest.raises(ValueError, match="numbered must be False for data that does not say how"):
        loader_of(TarSource(str(tmp_path)))
