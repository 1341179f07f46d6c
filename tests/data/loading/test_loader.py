import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastclip.data.digits.source import DigitSource
from fastclip.data.loading.bad_samples import DataError
from fastclip.data.loading.loader import PairLoader
from fastclip.data.loading.pieces import NEWS_AFTER
from fastclip.data.preprocess import image_transform
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.opening import open_source
from fastclip.data.sources.samples import BadSample, Sample
from fastclip.data.sources.source import IndexedSource
from fastclip.data.sources.synthetic import SyntheticSource
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import (
    image_bytes,
    in_process,
    pair_members,
    tar_bytes,
    to_pixels,
    to_text,
    to_tokens,
    write_shards,
)
from tests.support.pairwise import cover_pairs

REPOSITORY = Path(__file__).parents[3]


class Numbered(IndexedSource):
    """Samples with their number as a caption; those that `is_bad` says are bad."""

    def __init__(self, length: int, is_bad=None) -> None:
        self.length, self.is_bad = length, is_bad

    def __len__(self) -> int:
        return self.length

    def load(self, index: int) -> Sample | BadSample:
        if self.is_bad is not None and self.is_bad(index):
            return BadSample(str(index), "planted")
        pixels = torch.full((1, 2, 2), index % 256, dtype=torch.uint8)
        return Sample(str(index), pixels, str(index))


def loader_of(source, batch_size=4, transform=None, **settings) -> PairLoader:
    settings = {"shuffle_buffer": 8, "batch_size": batch_size, **settings}
    return PairLoader(source, transform, to_tokens, **settings)


def texts(batches) -> list[str]:
    return [to_text(row) for batch in batches for row in batch.tokens]


@pytest.mark.parametrize(
    "world_size, num_workers, num_shards", cover_pairs([1, 2, 3], [1, 2, 3], [1, 7])
)
def test_ranks_and_workers_together_see_every_sample_once(
    tmp_path, world_size, num_workers, num_shards
):
    write_shards(tmp_path, [41] if num_shards == 1 else [3, 9, 4, 7, 1, 12, 5])
    seen = Counter()
    for rank in range(world_size):
        loader = loader_of(
            TarSource(f"{tmp_path}/*.tar"), transform=to_pixels, rank=rank, drop_last=False,
            world_size=world_size, num_workers=num_workers,
        )  # fmt: skip
        # With the processes themselves once; what they do is the same.
        if (world_size, num_workers, num_shards) != (2, 2, 7):
            in_process(loader)
        seen += Counter((epoch, text) for epoch in range(2) for text in texts(loader))
        loader.close()
    assert seen == Counter({(epoch, f"pair {i}"): 1 for epoch in (0, 1) for i in range(41)})


def test_batches_are_full_uint8_and_named(tmp_path):
    write_shards(tmp_path, [10, 3])
    loader = loader_of(TarSource(f"{tmp_path}/*.tar"), transform=to_pixels)
    batches = list(loader)
    assert len(batches) == 3 and loader.num_dropped == 1
    for images, tokens, keys in batches:
        assert images.shape == (4, 3, 4, 4) and images.dtype == torch.uint8
        assert tokens.shape == (4, 16) and tokens.dtype == torch.int64
        assert len(keys) == 4 and all(".tar/" in key for key in keys)


@pytest.mark.parametrize("num_workers", [0, 3])
def test_few_samples_of_many_workers_make_full_batches(num_workers):
    loader = loader_of(Numbered(23), batch_size=10, num_workers=num_workers)
    assert [len(batch.keys) for batch in loader] == [10, 10] and loader.num_dropped == 3
    loader.close()
    kept = loader_of(Numbered(23), batch_size=10, num_workers=num_workers, drop_last=False)
    assert [len(batch.keys) for batch in kept] == [10, 10, 3] and kept.num_dropped == 0
    kept.close()


def test_order_is_that_of_seed_and_epoch():
    def orders(seed):
        loader = loader_of(Numbered(100), seed=seed)
        return [texts(loader) for _ in range(2)]

    first, second = orders(0)
    assert orders(0) == [first, second]
    assert first != second and sorted(first) == sorted(second)
    assert orders(1)[0] not in (first, second)


def test_a_buffer_of_one_keeps_the_order_of_the_source():
    loader = loader_of(Numbered(10), shuffle_buffer=1, drop_last=False)
    assert texts(loader) == [str(i) for i in range(10)] == texts(loader)


def test_fixed_epochs_are_equal_on_all_ranks_and_go_on_through_the_passes():
    for rank in range(2):
        settings = {"rank": rank, "world_size": 2, "num_workers": 2}
        passes = in_process(loader_of(Numbered(90), **settings))
        expected = [text for _ in range(4) for text in texts(passes)]
        loader = in_process(loader_of(Numbered(90), batches_per_epoch=5, **settings))
        epochs = [texts(loader) for _ in range(6)]
        assert [len(epoch) for epoch in epochs] == [20] * 6 and loader.epoch == 6
        assert [text for epoch in epochs for text in epoch] == expected[:120]


def test_augmentation_does_not_depend_on_the_number_of_workers(tmp_path):
    write_shards(tmp_path, [20, 20])
    seen = []
    for num_workers in (0, 2):
        loader = loader_of(
            TarSource(f"{tmp_path}/*.tar"), transform=to_pixels, num_workers=num_workers
        )
        seen.append(
            {k: i for batch in loader for k, i in zip(batch.keys, batch.images, strict=True)}
        )
        loader.close()
    assert seen[0].keys() == seen[1].keys() and len(seen[0]) == 40
    assert all(torch.equal(seen[0][key], seen[1][key]) for key in seen[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_samples_below_the_rate_are_counted_with_examples(num_workers):
    source = Numbered(1000, partial(_every, 20))
    loader = loader_of(source, num_workers=num_workers, drop_last=False)
    found = texts(loader)
    loader.close()
    assert sorted(found, key=int) == [str(i) for i in range(1000) if i % 20]
    bad = loader.bad_samples
    assert (bad.num_seen, bad.counts, bad.rate) == (1000, {"planted": 50}, 0.05)
    assert len(bad.examples["planted"]) == 5
    assert bad.summary() == "50 of 1000 samples are bad: 50 planted"
    assert json.loads(json.dumps(bad.to_dict()))["counts"] == {"planted": 50}


def test_too_many_bad_samples_raise_with_the_report_after_a_hundred():
    loader = loader_of(Numbered(1000, partial(_every, 5)), batch_size=10)
    consumed = 0
    with pytest.raises(DataError, match=r"max_bad_rate = 10.0%: .* planted\n  planted: \d+"):
        for _ in loader:
            consumed += 1
    assert 100 <= loader.bad_samples.num_seen <= 130 and consumed >= 7


def test_too_many_bad_samples_of_a_small_source_raise_at_the_end_of_the_epoch():
    loader = loader_of(Numbered(20, partial(_every, 5)))
    with pytest.raises(DataError, match="4 of 20 samples are bad"):
        list(loader)
    loader = loader_of(Numbered(20, partial(_every, 5)), max_bad_rate=0.2)
    assert len(list(loader)) == 4


def test_nothing_but_bad_samples_is_noticed_long_before_the_end():
    source = Numbered(10**6, partial(_every, 1))
    loader = loader_of(source)
    with pytest.raises(DataError, match=f"{NEWS_AFTER} of {NEWS_AFTER} samples are bad"):
        next(iter(loader))


def test_news_of_a_bad_stretch_is_not_counted_twice():
    source = Numbered(3 * NEWS_AFTER, partial(_between, 64, 64 + 2 * NEWS_AFTER))
    loader = loader_of(source, batch_size=700, max_bad_rate=0.99, drop_last=False)
    assert len(texts(loader)) == NEWS_AFTER
    assert loader.bad_samples.num_seen == 3 * NEWS_AFTER
    assert loader.bad_samples.num_bad == 2 * NEWS_AFTER


def test_missing_shards_count_and_images_that_do_not_decode_too(tmp_path):
    write_shards(tmp_path, [60, 60])
    members = pair_members(range(120, 180))
    members[0], members[4] = ("00120.png", b""), ("00122.png", b"\x89PNG nothing")
    (tmp_path / "002.tar").write_bytes(tar_bytes(members))
    loader = loader_of(
        TarSource(f"{tmp_path}/{{000..003}}.tar"), transform=to_pixels, drop_last=False,
        max_bad_rate=0.3,
    )  # fmt: skip
    assert len(texts(loader)) == 178
    assert loader.bad_samples.counts == {"missing shard": 60, "unusable image": 2}
    assert loader.bad_samples.num_seen == 240


@pytest.mark.parametrize("seed", range(2))
def test_few_shards_that_are_missing_do_not_count_as_many_when_they_come_first(tmp_path, seed):
    """One of twelve, 8 % of the data, which may be the first that is read."""
    write_shards(tmp_path, [30] * 11)
    loader = loader_of(
        TarSource(f"{tmp_path}/{{000..011}}.tar"), transform=to_pixels, seed=seed, drop_last=False
    )
    assert len(texts(loader)) == 330
    assert loader.bad_samples.counts == {"missing shard": 30}


def test_many_shards_that_are_missing_stop_a_pass_that_has_a_length(tmp_path):
    write_shards(tmp_path, [60] * 4)
    source = TarSource(f"{tmp_path}/{{000..005}}.tar")
    loader = loader_of(source, transform=to_pixels, shuffle_buffer=1, batches_per_epoch=1000)
    with pytest.raises(DataError, match=r"33\.3% of the samples are bad"):  # at the end of the pass
        texts(loader)
    (tmp_path / "sizes.json").write_text(json.dumps({f"00{i}.tar": 60 for i in range(6)}))
    source = TarSource(f"{tmp_path}/{{004,005,000,001,002,003}}.tar")
    loader = loader_of(source, transform=to_pixels, shuffle_buffer=1)
    with pytest.raises(DataError, match=r"33\.3% of the samples are bad"):
        next(iter(loader))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shard_that_vanishes_in_mid_run_is_seen_by_the_rate(tmp_path, num_workers):
    """A quarter of the data is gone, and nothing says how many samples it had."""
    paths = write_shards(tmp_path, [40] * 4)
    source = TarSource(f"{tmp_path}/*.tar")
    loader = loader_of(
        source, transform=to_pixels, num_workers=num_workers, batches_per_epoch=40
    )  # fmt: skip
    num_seen = len(texts(loader))
    paths[2].unlink()
    with pytest.raises(DataError, match=r"\d+ missing shard\n  missing shard: .*002.tar"):
        while num_seen < 160 * 6:
            num_seen += len(texts(loader))
    loader.close()
    assert loader.bad_samples.counts["missing shard"] % 40 == 0


def test_images_of_a_table_that_are_missing_empty_or_huge(tmp_path):
    names = [f"{i}.png" for i in range(40)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(image_bytes(i))
    (tmp_path / "3.png").unlink()
    (tmp_path / "5.png").write_bytes(b"")
    (tmp_path / "7.png").write_bytes(image_bytes(7, (20_000, 40), "JPEG"))
    rows = [f"{name}\tcaption {i}" for i, name in enumerate(names)]
    (tmp_path / "t.tsv").write_text("\n".join(["filepath\ttitle", *rows]))
    transform = image_transform(8, True, output="uint8")
    loader = loader_of(CsvSource(tmp_path / "t.tsv"), transform=transform, drop_last=False)
    assert sorted(texts(loader)) == sorted(f"caption {i}" for i in range(40) if i not in (3, 5))
    assert loader.bad_samples.counts == {"missing image file": 1, "unusable image": 1}


def test_every_source_can_be_loaded(tmp_path):
    (tmp_path / "a.png").write_bytes(image_bytes(1))
    (tmp_path / "a.txt").write_text("words")
    transform = image_transform((16, 24), True, output="uint8")
    for source in (DigitSource(num_samples=20), SyntheticSource(20), FolderSource(tmp_path)):
        (batch, *_) = loader_of(source, transform=transform, drop_last=False)
        assert batch.images.shape[1:] == (3, 16, 24)
    images = next(iter(loader_of(open_source("digits", num_samples=8), transform=None))).images
    assert images.shape == (4, 1, 16, 24)


def test_a_pass_without_a_batch_raises_instead_of_going_on_for_ever():
    for settings in ({}, {"drop_last": False, "batches_per_epoch": 2, "world_size": 5, "rank": 4}):
        loader = loader_of(Numbered(3), **settings)
        with pytest.raises(DataError, match=r"has [03] good samples, fewer than batch_size = 4"):
            list(loader)
    assert texts(loader_of(Numbered(3), drop_last=False, world_size=5, rank=4)) == []


def test_images_of_different_shapes_raise():
    def ragged(image) -> Tensor:
        return torch.zeros((3, 2 + image.getpixel((0, 0)) % 2, 2), dtype=torch.uint8)

    words = r"transform must return one shape, got \[\(3, 2, 2\), \(3, 3, 2\)\].* any_size=True"
    with pytest.raises(ValueError, match=words):
        list(loader_of(Numbered(20), transform=ragged))


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0}, {"rank": 1}, {"rank": -1}, {"world_size": 0}, {"num_workers": -1},
        {"shuffle_buffer": 0}, {"max_bad_rate": 1.1}, {"prefetch": 0}, {"batches_per_epoch": 0},
    ],
)  # fmt: skip
def test_arguments_out_of_range_raise_with_their_names(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be"):
        loader_of(Numbered(3), **settings)


def test_workers_that_get_all_by_pickle_give_the_same_batches():
    # Not "spawn": one in a hundred of such processes of torch's aborts as it ends, in Python's own
    # end, when the thread that hands over tensors is still at work.
    source = SyntheticSource(30, 8)
    transform = image_transform(4, True, output="uint8")
    expected = list(loader_of(source, transform=transform, num_workers=1))
    pickled = loader_of(source, transform=transform, num_workers=1, start_method="forkserver")
    for batch, other in zip(pickled, expected, strict=True):
        assert batch.keys == other.keys and torch.equal(batch.images, other.images)
    pickled.close()


def test_workers_use_one_thread():
    loader = loader_of(Numbered(20), transform=_num_threads, num_workers=2)
    assert all((batch.images == 1).all() for batch in loader)
    loader.close()


def test_an_error_in_a_worker_is_raised_with_its_type_and_message():
    loader = loader_of(Numbered(20), transform=_floats, num_workers=2)
    with pytest.raises(TypeError, match="transform must return"):
        list(loader)
    loader.close()


def test_a_worker_that_dies_is_a_clear_error():
    loader = loader_of(Numbered(20), transform=_die, num_workers=2)
    with pytest.raises(DataError, match=r"data worker \d of 2 has died"):
        list(loader)
    loader.close()


def test_workers_die_with_their_parent():
    script = """
import time, torch
from fastclip.data.loading.loader import PairLoader
from fastclip.data.sources.synthetic import SyntheticSource
loader = PairLoader(SyntheticSource(100, 4), None, lambda t: torch.zeros(len(t), 4).long(),
                    batch_size=4, num_workers=2)
next(iter(loader)), next(iter(loader))
print(*(s._workers[0].pid for s in loader._workers._streams), flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    with parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(map(_is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_is_running, workers))


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _every(step: int, index: int) -> bool:
    return index % step == 0


def _between(start: int, stop: int, index: int) -> bool:
    return start <= index < stop


def _num_threads(image) -> Tensor:
    return torch.full((1, 2, 2), torch.get_num_threads(), dtype=torch.uint8)


def _floats(image) -> Tensor:
    return torch.zeros((1, 2, 2))


def _die(image) -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
