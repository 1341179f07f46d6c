"""When a run saves, and under which names; without a run."""

from types import SimpleNamespace

import pytest
import torch

from fastclip.train.checkpoints.run_checkpoints import Progress, RunCheckpoints
from fastclip.train.checkpoints.store import CheckpointStore
from fastclip.train.run import saving
from fastclip.train.run.saving import Saving
from fastclip.train.settings.output_config import CheckpointConfig


class Checkpoints:
    """Remembers what it was to save."""

    def __init__(self):
        self.saved = []

    def save(self, progress, names=()):
        self.saved.append((*progress, list(names)))


@pytest.fixture
def clock(monkeypatch):
    """Seconds that have gone by, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    return now


def test_what_is_saved_already_is_not_saved_again():
    checkpoints = Checkpoints()
    subject = Saving(CheckpointConfig(), checkpoints)
    subject.save_what_is_not(Progress(0, 0))
    subject.save_what_is_not(Progress(0, 0))
    subject.save(Progress(1, 4), ["epoch_1.pt"])
    subject.save_what_is_not(Progress(1, 4))
    assert checkpoints.saved == [(0, 0, []), (1, 4, ["epoch_1.pt"])]


def test_minutes_count_from_the_last_checkpoint_and_only_with_a_step_in_them(clock):
    subject = Saving(CheckpointConfig(save_every_minutes=2.0), Checkpoints())
    clock[0] = 120.0
    assert not subject.is_late(1)
    clock[0] = 121.0
    assert subject.is_late(1)
    subject.save(Progress(0, 1))
    clock[0] = 500.0
    assert not subject.is_late(1) and subject.is_late(2)
    assert not Saving(CheckpointConfig(save_every_minutes=None), Checkpoints()).is_late(3)


class Average:
    """Of weights: 1 GiB of float32, and no memory."""

    module = torch.nn.Linear(2**18, 2**10, bias=False, device="meta")


@pytest.mark.parametrize("average, said", [(None, None), (Average, "keeps will take 3.0")])
def test_disk_of_epochs_counts_the_averages(average, said, tmp_path):
    checkpoints = object.__new__(RunCheckpoints)
    checkpoints.state = SimpleNamespace(average=average)
    checkpoints.store = CheckpointStore(tmp_path)
    checkpoints.store.save({"epoch": 1}, 4, ["epoch_1.pt"])
    found = Saving(CheckpointConfig(), checkpoints).disk_of_epochs(3)
    assert found is None if said is None else said in found


def test_steps_are_counted_where_that_is_asked_for():
    assert not Saving(CheckpointConfig(), Checkpoints()).is_due_after(4)
    subject = Saving(CheckpointConfig(save_every_steps=2), Checkpoints())
    assert [step for step in range(1, 7) if subject.is_due_after(step)] == [2, 4, 6]


@pytest.mark.parametrize("frequency, kept", [(0, [5]), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5])])
def test_checkpoints_of_so_many_epochs_and_of_the_last_one_stay(frequency, kept):
    settings = CheckpointConfig(save_frequency=frequency, save_most_recent=True)
    subject = Saving(settings, Checkpoints())
    for epoch in range(1, 6):
        names = subject.names_of_epoch(epoch, is_last=epoch == 5)
        assert names == [f"epoch_{epoch}.pt"] * (epoch in kept) + ["epoch_latest.pt"]
