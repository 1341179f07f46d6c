import pytest
import torch

from fastclip.data.loading.first_look import MOST, require_readable
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import IndexedSource


class Beginning(IndexedSource):
    """Samples of which the first few are bad."""

    def __init__(self, num_bad, num):
        self.num_bad, self.num, self.num_read = num_bad, num, 0

    def __len__(self):
        return self.num

    def load(self, index):
        self.num_read += 1
        if index < self.num_bad:
            return BadSample(str(index), "empty caption")
        return Sample(str(index), torch.zeros(3, 1, 1, dtype=torch.uint8), "a text")


def tokenize(texts):
    return torch.zeros(len(texts), 4, dtype=torch.int64)


def look(source, transform=None, max_bad_rate=0.1):
    require_readable("--val-data", source, transform, tokenize, max_bad_rate)


@pytest.mark.parametrize("num_bad, num", [(0, 5), (4, 5), (MOST, 10 * MOST), (999, 10_000)])
def test_data_that_may_be_used_is_read_to_its_first_sample_at_most(num_bad, num):
    source = Beginning(num_bad, num)
    look(source)
    assert source.num_read == min(num_bad + 1, MOST)


@pytest.mark.parametrize("num_bad, num, read", [(5, 5, 5), (MOST, 10 * MOST - 1, MOST)])
def test_data_that_cannot_be_is_refused_with_its_name_and_the_reason(num_bad, num, read):
    source = Beginning(num_bad, num)
    with pytest.raises(ValueError, match=f"--val-data .*: {read} of {read} samples are bad"):
        look(source)
    assert source.num_read == read
    look(Beginning(5, 5), max_bad_rate=1.0)


def test_images_are_decoded_as_they_are_going_to_be():
    def broken(image):
        raise KeyError("colour")

    with pytest.raises(ValueError, match="unusable image: 0: KeyError: 'colour'"):
        look(Beginning(0, 3), transform=broken)
    with pytest.raises(
        TypeError, match="--val-data does not fit this model: transform must return"
    ):
        look(Beginning(0, 3), transform=lambda image: torch.zeros(3, 1, 1))
