"""Checkpoints that are whole or not there, whatever kills the process that writes them."""

import os
import random
import signal
import time

import pytest
import torch

from fastclip.train.checkpoints.file import objection_to, write_checkpoint
from fastclip.train.checkpoints.store import CheckpointStore


def content_of(step: int) -> dict:
    """A content that tells its step in every tensor."""
    return {"global_step": step, "state": {str(i): torch.full((500,), step) for i in range(5)}}


def assert_whole(content: dict) -> None:
    for value in content["state"].values():
        assert (value == content["global_step"]).all()


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints", keep_last=3)


def names(store):
    return sorted(path.name for path in store.directory.iterdir())


def test_newest_is_what_was_saved_last_and_the_last_few_stay(store):
    assert store.newest() is None
    for step in (5, 40, 1000, 1200, 90000):
        path = store.save(content_of(step), step)
        assert store.newest().path == path
        assert store.newest().content["global_step"] == step
    assert names(store) == ["step_000001000.pt", "step_000001200.pt", "step_000090000.pt"]


def test_epochs_stay_and_take_no_second_copy(store):
    for epoch in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10):
        store.save(content_of(epoch), 10 * epoch, [f"epoch_{epoch}.pt"])
    assert len([n for n in names(store) if n.startswith("epoch_")]) == 10
    assert (store.directory / "epoch_10.pt").samefile(store.directory / "step_000000100.pt")
    for path in store.directory.glob("step_*"):
        path.unlink()
    assert store.newest().path.name == "epoch_10.pt"


def test_all_stay_if_asked(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=None)
    for step in range(7):
        store.save(content_of(step), step)
    assert len(store.paths()) == 7
    with pytest.raises(ValueError, match="keep_last must be at least 1"):
        CheckpointStore(tmp_path, keep_last=0)


@pytest.mark.parametrize("damage", ["cut", "empty", "byte", "text"])
def test_damaged_checkpoint_is_passed_over_with_a_word(damage, store):
    store.save(content_of(1), 1)
    newest = store.save(content_of(2), 2)
    data = bytearray(newest.read_bytes())
    if damage == "byte":
        data[data.index(b"\x02\x00\x00\x00\x00\x00\x00\x00") + 8] ^= 1
    damaged = {"cut": data[:-100], "empty": b"", "byte": data, "text": b"hello"}[damage]
    newest.write_bytes(damaged)
    told = []
    found = CheckpointStore(store.directory, tell=told.append).newest()
    assert found.content["global_step"] == 1
    assert len(told) == 1 and "step_000000002.pt is skipped: " in told[0]


def test_every_changed_byte_of_a_tensor_is_noticed(tmp_path):
    path = tmp_path / "step_000000001.pt"
    write_checkpoint(path, content_of(1))
    assert objection_to(path) is None
    whole = path.read_bytes()
    start = whole.index(b"\x01\x00\x00\x00\x00\x00\x00\x00" * 20)
    for position in range(start, start + 4000, 397):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        assert "is damaged" in objection_to(path)


def test_only_tensors_and_plain_values_are_read_back(store):
    path = store.save({"global_step": 1, "state": {}}, 1)
    assert torch.load(path, weights_only=True)["global_step"] == 1


def test_temporaries_of_killed_processes_are_removed_and_nothing_else(store):
    store.save(content_of(1), 1, ["epoch_1.pt"])
    (store.directory / ".step_000000002.pt.123").write_bytes(b"half")
    (store.directory / ".epoch_2.pt.77").write_bytes(b"half")
    (store.directory / "notes.txt").write_text("mine")
    store.remove_temporaries()
    assert names(store) == ["epoch_1.pt", "notes.txt", "step_000000001.pt"]


def test_full_disk_leaves_the_older_checkpoint(store, monkeypatch):
    store.save(content_of(1), 1)

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        store.save(content_of(2), 2)
    assert names(store) == ["step_000000001.pt"]


@pytest.mark.alone
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_killing_the_writer_at_any_moment_leaves_a_whole_newest_checkpoint(tmp_path):
    generator = random.Random(0)
    told = []
    store = CheckpointStore(tmp_path, 2, told.append)
    last = 0
    interrupted = 0
    for _ in range(20):
        child = os.fork()
        if child == 0:
            step = last
            while True:  # until it is killed
                step += 1
                store.save(content_of(step), step, [f"epoch_{step}.pt"] if step % 3 == 0 else [])
        deadline = time.monotonic() + 60
        while not store.paths():  # a busy machine takes its time for the first
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(generator.uniform(0.005, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        interrupted += any(path.name.startswith(".") for path in tmp_path.iterdir())
        told.clear()
        found = store.newest()
        assert not told
        assert found.content["global_step"] >= last
        assert_whole(found.content)
        last = found.content["global_step"]
        store.remove_temporaries()
    assert last > 0
    assert interrupted > 0  # some were killed in the middle of a write
