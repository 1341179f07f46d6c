from dataclasses import replace

import pytest

from fastclip.data.loading.bad_samples import DataError
from fastclip.data.loading.stream import START, Reader, SampleStream
from fastclip.data.sources.samples import BadSample
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import pair_members, tar_bytes, write_shards


def reader_of(folder, index=0, num_readers=1, shuffle_buffer=7, seed=0) -> Reader:
    source = TarSource(f"{folder}/*.tar")
    return Reader(source, source.parts(), index, num_readers, seed, shuffle_buffer)


def draw_all(stream: SampleStream) -> list[str]:
    found = []
    while (drawn := stream.draw()) is not None:
        found.append(drawn.reason if isinstance(drawn, BadSample) else drawn[1].caption)
    return found


@pytest.fixture
def shards(tmp_path):
    write_shards(tmp_path, [9, 4, 0, 11])
    damaged = pair_members(range(9, 13))
    del damaged[3]
    (tmp_path / "001.tar").write_bytes(tar_bytes(damaged)[: 7 * 1024])
    return tmp_path


def test_stream_gives_every_sample_once_and_counts_the_bad(shards):
    stream = SampleStream(reader_of(shards), 0)
    found = draw_all(stream)
    good = [text for text in found if text.startswith("pair")]
    assert sorted(good) == sorted(f"pair {i}" for i in range(24) if i != 10)
    assert good != sorted(good) and "no caption" in found
    assert stream.num_seen == len(found)


def test_stream_of_a_buffer_of_one_keeps_the_order(shards):
    found = draw_all(SampleStream(reader_of(shards, shuffle_buffer=1), 0))
    good = [text for text in found if text.startswith("pair")]
    assert good == [f"pair {i}" for i in range(24) if i != 10]


def test_buffer_mixes_over_the_whole_of_its_length(tmp_path):
    write_shards(tmp_path, [400])
    found = draw_all(SampleStream(reader_of(tmp_path, shuffle_buffer=100), 0))
    numbers = [int(text.split()[1]) for text in found]
    ahead = [number - i for i, number in enumerate(numbers)]
    assert max(ahead) < 100 and max(ahead) > 80 and min(ahead) < -100
    assert len({tuple(draw_all(SampleStream(reader_of(tmp_path), e))) for e in range(3)}) == 3


@pytest.mark.parametrize("index, num_readers", [(0, 1), (1, 3), (5, 6)])
def test_stream_from_any_cursor_goes_on_as_the_undisturbed_one(shards, index, num_readers):
    reader = reader_of(shards, index, num_readers, shuffle_buffer=5)
    stream = SampleStream(reader, 2)
    cursors = [stream.cursor()]
    found = []
    while (drawn := stream.draw()) is not None:
        found.append(drawn)
        cursors.append(stream.cursor())
    assert len(found) >= 2
    for i, cursor in enumerate(cursors):
        again = SampleStream(reader, 2, cursor)
        assert [again.draw() for _ in found[i:]] == found[i:]
        assert again.draw() is None
        assert again.cursor().to_dict().keys() == START.to_dict().keys()


def test_stream_whose_buffered_sample_is_gone_says_so(shards):
    reader = reader_of(shards)
    stream = SampleStream(reader, 0)
    stream.draw()
    cursor = stream.cursor()
    for path in shards.iterdir():
        path.write_bytes(tar_bytes([]))
    with pytest.raises(DataError, match=r"cannot resume, because .*\.tar has changed"):
        SampleStream(reader, 0, cursor)


def test_draws_of_readers_and_seeds_are_unrelated(shards):
    orders = {
        tuple(draw_all(SampleStream(replace(reader_of(shards), seed=seed), 0))) for seed in range(4)
    }
    assert len(orders) == 4
