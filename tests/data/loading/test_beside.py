"""Batches that bring what is stored of their samples elsewhere."""

import pytest
import torch

from fastclip.data.loading.bad_samples import DataError
from fastclip.data.sources.tar_shards import TarSource
from tests.data.loading.test_sample_facts import captions, loader_of
from tests.support.pair_files import to_pixels, write_shards

MISSING = (4, 90)


class Stored:
    """Two vectors that say of which sample they are, of all but a few samples."""

    names = ("squares", "places")

    def __call__(self, place):
        stretch, position = place
        if position in MISSING:
            return "nothing stored"
        return torch.tensor([position**2.0]), torch.tensor([stretch, position])


@pytest.mark.parametrize("num_workers, world_size", [(0, 1), (2, 3)])
def test_every_sample_has_its_own_in_every_pass_of_any_ranks_and_workers(num_workers, world_size):
    settings = {"num_workers": num_workers, "world_size": world_size, "drop_last": False}
    loaders = [
        loader_of(rank=rank, beside=Stored(), facts=["numbers"], in_order_of="numbers", **settings)
        for rank in range(world_size)
    ]
    for number in range(1, 3):
        seen = []
        for batch in (batch for loader in loaders for batch in loader):
            numbers = captions(batch)
            assert batch.facts["numbers"].tolist() == numbers
            assert batch.facts["squares"].tolist() == [[i**2.0] for i in numbers]
            assert batch.facts["places"].tolist() == [[0, i] for i in numbers]
            seen += numbers
        assert sorted(seen) == [i for i in range(150) if i % 11 != 10 and i not in MISSING]
        bad = [loader.bad_samples.counts.get("nothing stored", 0) for loader in loaders]
        assert sum(bad) == number * len(MISSING)


def test_processes_that_decode_bring_it_too():
    loader = loader_of(beside=Stored(), facts=(), num_workers=1)
    plain = loader_of(beside=Stored(), facts=())
    loader._processes = {"num_workers": 1, "prefetch_factor": 2, "multiprocessing_context": "fork"}
    for one, other in zip(loader, plain, strict=True):
        assert torch.equal(one.facts["squares"], other.facts["squares"])
    loader.close()


def test_shards_are_told_apart(tmp_path):
    write_shards(tmp_path, [5, 6])
    settings = {"facts": (), "batch_size": 11}
    (batch,) = loader_of(TarSource(str(tmp_path)), to_pixels, beside=Stored(), **settings)
    order = sorted(range(11), key=lambda i: batch.keys[i])
    stretches, positions = batch.facts["places"][order].T
    assert stretches.tolist() == [0] * 5 + [1] * 6
    assert positions[[0, 5]].tolist() == [0, 0]
    assert (positions[1:5] > positions[:4]).all() and (positions[6:] > positions[5:-1]).all()


def test_data_of_which_too_little_is_stored_is_refused_with_the_reason():
    class Nothing(Stored):
        def __call__(self, place):
            return "nothing stored"

    loader = loader_of(beside=Nothing(), facts=())
    with pytest.raises(DataError, match=r"of the samples are bad, .*nothing stored"):
        next(iter(loader))
