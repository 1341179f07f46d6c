"""After `load_state_dict` the batches are to the bit those that would have followed."""

import io
import random

import numpy as np
import pytest
import torch

from fastclip.data.loading.loader import Batch, PairLoader
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import (
    in_process,
    pair_members,
    tar_bytes,
    to_pixels,
    to_tokens,
    write_shards,
)

EPOCHS = 2


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Five shards of 59 samples, one of them corrupt, one truncated, one undecodable image."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, [13, 12, 11, 12, 11])
    damaged = bytearray((folder / "001.tar").read_bytes())
    damaged[5 * 1024 + 150] ^= 0xFF
    (folder / "001.tar").write_bytes(damaged)
    (folder / "003.tar").write_bytes((folder / "003.tar").read_bytes()[: 21 * 1024 + 20])
    members = pair_members(range(48, 59))
    members[4] = (members[4][0], b"no image")
    (folder / "004.tar").write_bytes(tar_bytes(members))
    return folder


def loader_of(shards, num_workers, **settings) -> PairLoader:
    settings = {"batch_size": 5, "shuffle_buffer": 6, "seed": 1, **settings}
    source = TarSource(f"{shards}/*.tar")
    return PairLoader(source, to_pixels, to_tokens, num_workers=num_workers, **settings)


def save(loader: PairLoader) -> bytes:
    file = io.BytesIO()
    torch.save(loader.state_dict(), file)
    return file.getvalue()


def restore(loader: PairLoader, state: bytes) -> PairLoader:
    loader.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
    return loader


def run(loader: PairLoader, epochs: int = EPOCHS):
    """Yield (epoch, batch, state behind it) to the end of the last epoch."""
    for epoch in range(loader.epoch, epochs):
        for batch in loader:
            yield epoch, batch, save(loader)


def undisturbed(loader: PairLoader) -> tuple[list[bytes], list, dict]:
    """The states before each step and at the end, the steps, and the bad samples at the end."""
    start = save(loader)
    steps = list(run(loader))
    return [start, *(state for _, _, state in steps)], steps, loader.bad_samples.to_dict()


def assert_equal(found: Batch, expected: Batch) -> None:
    assert found.keys == expected.keys
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.tokens, expected.tokens)


def assert_resumes(make, states: list[bytes], steps: list, expected_end: dict, ahead=None) -> None:
    """From each state, the following steps (`ahead` of them, else all) are the same."""
    for i, state in enumerate(states):
        loader = restore(make(), state)
        following = steps[i:] if ahead is None else steps[i : i + ahead]
        stream = run(loader)
        for epoch, batch, after in following:
            again_epoch, again, again_after = next(stream)
            assert again_epoch == epoch
            assert_equal(again, batch)
            assert again_after == after
        if ahead is None:
            assert next(stream, None) is None
            assert loader.bad_samples.to_dict() == expected_end
        stream.close()
        loader.close()


@pytest.mark.parametrize(
    "num_workers, settings",
    [
        (1, {"drop_last": False}), (2, {"drop_last": True}), (3, {"drop_last": False}),
        (1, {"batches_per_epoch": 7}), (3, {"batches_per_epoch": 7}),
        (2, {"rank": 1, "world_size": 2, "drop_last": False}),
    ],
)  # fmt: skip
def test_resuming_at_every_batch_gives_the_same(shards, num_workers, settings):
    def make():
        return in_process(loader_of(shards, num_workers, **settings))

    states, steps, end = undisturbed(make())
    assert len(steps) >= 8 and sum(end["counts"].values()) >= 2
    assert_resumes(make, states, steps, end, ahead=3)
    for i in (0, 2, len(steps) // 2, len(steps) - 1, len(steps)):
        assert_resumes(make, states[i : i + 1], steps[i:], end)


def test_resuming_with_processes_gives_the_same_as_in_process(shards, num_workers=3):
    def make():
        return loader_of(shards, num_workers, drop_last=False)

    states, steps, end = undisturbed(in_process(make()))
    for i in (0, 8, 11, 12, len(steps)):
        assert_resumes(make, states[i : i + 1], steps[i:], end)


def test_one_worker_and_none_give_the_same_and_may_be_exchanged(shards):
    without, one = loader_of(shards, 0), loader_of(shards, 1)
    for batch, other in zip(without, one, strict=True):
        assert_equal(batch, other)
    restore(loader_of(shards, 0), save(one))
    one.close()


def test_close_and_iterating_again_go_on_where_the_last_batch_was(shards):
    _, steps, _ = undisturbed(in_process(loader_of(shards, 2)))
    loader = in_process(loader_of(shards, 2))
    found = []
    while loader.epoch < EPOCHS:
        for batch in loader:
            found.append(batch)
            if len(found) % 3 == 0:
                break
        loader.close()
    for batch, (_, expected, _) in zip(found, steps, strict=True):
        assert_equal(batch, expected)


def test_a_state_loaded_into_a_used_loader_replaces_its_own(shards):
    loader = loader_of(shards, 2)
    steps = list(run(loader))
    restore(loader, steps[1][2])
    for (_, batch, state), (_, expected, expected_state) in zip(
        run(loader), steps[2:], strict=True
    ):
        assert_equal(batch, expected)
        assert state == expected_state
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_generators_of_the_trainer_are_left_alone(shards, num_workers):
    def drawn():
        return torch.rand(1).item(), random.random(), np.random.rand()

    def seed():
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)

    seed()
    expected = drawn()
    seed()
    loader = loader_of(shards, num_workers)
    list(run(loader))
    restore(loader, save(loader))
    assert drawn() == expected
    loader.close()


@pytest.mark.parametrize(
    "name, settings",
    [
        ("num_workers", {"num_workers": 3}),
        ("world_size", {"world_size": 2}),
        ("rank", {"rank": 1, "world_size": 3}),
        ("seed", {"seed": 2}),
        ("batch_size", {"batch_size": 4}),
        ("shuffle_buffer", {"shuffle_buffer": 7}),
        ("drop_last", {"drop_last": False}),
        ("batches_per_epoch", {"batches_per_epoch": 3}),
    ],
)
def test_a_state_of_other_settings_raises_and_names_them(shards, name, settings):
    state = save(
        loader_of(shards, 2, world_size=settings.get("world_size", 1) if name == "rank" else 1)
    )
    settings = {"num_workers": 2, **settings}
    with pytest.raises(ValueError, match=f"the same {name}: it was saved with"):
        restore(loader_of(shards, **settings), state)


def test_a_state_of_other_data_or_another_version_raises(shards, tmp_path):
    state = loader_of(shards, 0).state_dict()
    write_shards(tmp_path, [2, 2])
    with pytest.raises(ValueError, match="the same parts"):
        loader_of(tmp_path, 0).load_state_dict(state)
    with pytest.raises(ValueError, match="version"):
        loader_of(shards, 0).load_state_dict({**state, "version": 0})


def test_data_that_has_moved_to_another_folder_is_the_same(shards, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in shards.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    steps = list(run(loader_of(shards, 0)))
    again = run(restore(loader_of(moved, 0), steps[3][2]))
    for (_, batch, _), (_, expected, _) in zip(again, steps[4:], strict=True):
        assert torch.equal(batch.images, expected.images)
