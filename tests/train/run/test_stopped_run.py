"""A run that is told to stop at a bad moment: it saves what is whole, and goes on to the bit."""

import json
import os
import signal
import socket
import sys

import pytest
import torch

from fastclip.cli import main
from fastclip.data.sources.opening import open_source
from fastclip.data.sources.source import IndexedSource
from fastclip.train.run import pairs
from tests.support.runs import arguments, assert_same_run, final, finish, server

STEPS, EPOCHS, BATCH = 4, 2, 16
SETTINGS = dict(
    epochs=EPOCHS, train_num_samples=STEPS * BATCH, global_batch_size=BATCH, micro_batch_size=8,
    save_every_steps=1000, shuffle_buffer=5, val_data="digits-held-out", activation_budget=0,
)  # fmt: skip


class Stuck(IndexedSource):
    """A source that is read as it should be, until it is read as often as `after` says."""

    def __init__(self, source, after, stop):
        self.source, self.after, self.stop = source, after, stop

    def __len__(self):
        return min(len(self.source), 40) if self.source.num_samples() > 1000 else len(self.source)

    def load(self, index):
        self.after -= 1
        if self.after == 0:
            self.stop()
        return self.source.load(index)


def told_to_stop_and_stuck(number):
    os.kill(os.getpid(), number)
    os.read(os.pipe()[0], 1)  # nobody writes


def worker_that_is_stopped():
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGSTOP)


def stick(monkeypatch, stop=None, in_training=None, in_validation=None):
    """Make sources that stick: after how many reads from now on, None for never."""

    def open_stuck(spec, kind, **settings):
        after = in_validation if spec == "digits-held-out" else in_training
        return Stuck(open_source(spec, kind, **settings), after or 0, stop)

    monkeypatch.setattr(pairs, "open_source", open_stuck)


def results(logs, name):
    path = logs / name / "results.jsonl"
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run that nobody stops ends with."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stick(monkeypatch)
        assert main(arguments(logs, "whole", **SETTINGS)) == 0
    return final(logs, "whole"), results(logs, "whole")


def goes_on(monkeypatch, tmp_path, whole, **changes):
    """Resume, and compare with the run that was not stopped."""
    stick(monkeypatch)
    argv = arguments(tmp_path, "stopped", resume="latest", **SETTINGS | changes)
    assert main(argv) == 0
    content, lines = whole
    if not changes:
        assert_same_run(final(tmp_path, "stopped"), content)
        assert results(tmp_path, "stopped") == lines
    assert [line["epoch"] for line in results(tmp_path, "stopped")] == [1, 2]


@pytest.mark.parametrize(
    "number, after, steps",
    [
        (signal.SIGUSR1, 1, 0),  # nothing is trained yet
        (
            signal.SIGHUP,
            STEPS * BATCH + BATCH + 9 + 5,
            STEPS + 1,
        ),  # the second micro-batch of a step
    ],
)
def test_waiting_for_data(number, after, steps, whole, tmp_path, monkeypatch):
    stick(monkeypatch, lambda: told_to_stop_and_stuck(number), in_training=after)
    assert main(arguments(tmp_path, "stopped", **SETTINGS)) == 128 + number
    log = (tmp_path / "stopped" / "out.log").read_text()
    name = signal.Signals(number).name
    assert f"{name} has stopped the run: a checkpoint is saved after step {steps}" in log
    assert final(tmp_path, "stopped")["global_step"] == steps
    goes_on(monkeypatch, tmp_path, whole)


def test_waiting_for_a_worker_that_is_stopped(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    stick(monkeypatch, worker_that_is_stopped, in_training=BATCH + 9)
    assert main(arguments(tmp_path, "stopped", **SETTINGS, workers=1)) == 143
    goes_on(monkeypatch, tmp_path, whole, workers=1)


def test_evaluating(whole, tmp_path, monkeypatch):
    after = 40 + 1 + 20  # in the second one; one pair is looked at before the run starts
    stick(monkeypatch, lambda: told_to_stop_and_stuck(signal.SIGTERM), in_validation=after)
    assert main(arguments(tmp_path, "stopped", **SETTINGS)) == 143
    assert [line["epoch"] for line in results(tmp_path, "stopped")] == [1]
    goes_on(monkeypatch, tmp_path, whole)


def test_saving(whole, tmp_path, monkeypatch):
    save, told = torch.save, []

    def save_when_told(*args, **settings):
        told.append(os.kill(os.getpid(), signal.SIGINT))
        return save(*args, **settings)

    monkeypatch.setattr(torch, "save", save_when_told)
    stick(monkeypatch)
    assert main(arguments(tmp_path, "stopped", **SETTINGS | {"save_every_steps": 3})) == 130
    assert final(tmp_path, "stopped")["global_step"] == 3 and len(told) == 1
    monkeypatch.undo()
    goes_on(monkeypatch, tmp_path, whole)


def train_as_rank(rank, port, argv, stuck_after):
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
        "RANK": str(rank), "LOCAL_RANK": str(rank),
    }  # fmt: skip
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        stick(monkeypatch, lambda: told_to_stop_and_stuck(signal.SIGTERM), stuck_after)
        sys.exit(main(argv))


def end_ranks(argv, stuck_after=(None, None)):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        server().Process(target=train_as_rank, args=(rank, port, argv, stuck_after[rank]))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    return [finish(process, 240) for process in processes]


@pytest.mark.slow
@pytest.mark.alone
def test_rank_that_waits_for_data_takes_along_the_one_that_waits_for_it(tmp_path):
    argv = arguments(tmp_path, "whole", **SETTINGS)
    assert end_ranks(argv) == [0, 0]
    argv = arguments(tmp_path, "stopped", resume="latest", **SETTINGS)
    assert end_ranks(argv, stuck_after=(None, 22)) == [143, 143]
    assert final(tmp_path, "stopped")["global_step"] == 2
    assert end_ranks(argv) == [0, 0]
    assert_same_run(final(tmp_path, "stopped"), final(tmp_path, "whole"))
    assert results(tmp_path, "stopped") == results(tmp_path, "whole")
