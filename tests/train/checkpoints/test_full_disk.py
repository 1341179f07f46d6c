"""A disk that is full, or a file that may not grow: what is said, what stays."""

import errno
import logging
import os
import shutil

import pytest
import torch

from fastclip.atomic_file import CannotWrite
from fastclip.cli import main
from fastclip.train.checkpoints.file import write_checkpoint
from fastclip.train.checkpoints.store import CheckpointNotWritten, CheckpointStore
from fastclip.train.log.results_file import ResultsFile
from fastclip.train.log.run_log import RunLog
from tests.support.full_disk import files_of_at_most
from tests.support.runs import arguments


def content(step, num=100_000):
    return {"global_step": step, "state": {str(i): torch.full((num,), step) for i in range(3)}}


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("limit", [0, 1000, 1_000_000, 2_399_000])  # of 2.4 MB, in any part of it
def test_refused_write_names_the_file_and_the_systems_reason(limit, tmp_path):
    path = tmp_path / "model.pt"
    with files_of_at_most(limit), pytest.raises(CannotWrite) as raised:
        write_checkpoint(path, content(1))
    assert str(raised.value) == f"{path} cannot be written: File too large"
    assert raised.value.errno == errno.EFBIG
    assert names(tmp_path) == []


@pytest.mark.parametrize("where", ["fsync", "replace"])  # where networks' file systems tell
def test_disk_that_is_found_full_late_is_named_too(where, tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "model.pt", content(1, num=3))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, where, full)
    with pytest.raises(CannotWrite, match=r"model.pt cannot be written: No space left on device"):
        write_checkpoint(tmp_path / "model.pt", content(2, num=3))
    assert names(tmp_path) == ["model.pt"]
    assert torch.load(tmp_path / "model.pt", weights_only=True)["global_step"] == 1


def test_error_that_is_not_the_disks_stays_what_it_is(tmp_path, monkeypatch):
    def broken(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        write_checkpoint(tmp_path / "model.pt", content(1))
    assert names(tmp_path) == []


def test_error_says_which_checkpoint_is_still_good(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(content(1), 1, ["epoch_1.pt"])
    damaged = store.save(content(2), 2)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with files_of_at_most(1_000_000), pytest.raises(CheckpointNotWritten) as raised:
        store.save(content(3), 3)
    good = tmp_path / "step_000000001.pt"
    assert str(raised.value) == (
        f"the checkpoint {tmp_path / 'step_000000003.pt'} cannot be written: File too large; "
        f"{good} is still good"
    )
    assert raised.value.errno == errno.EFBIG
    assert names(tmp_path) == ["epoch_1.pt", "step_000000001.pt", "step_000000002.pt"]


def test_first_checkpoint_that_is_refused_says_that_there_is_no_other(tmp_path):
    with files_of_at_most(1_000_000), pytest.raises(CheckpointNotWritten, match="is no other"):
        CheckpointStore(tmp_path).save(content(1), 1)
    assert names(tmp_path) == []


def test_name_of_an_epoch_that_is_refused_is_named(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "from", None, "to")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(CheckpointNotWritten) as raised:
        CheckpointStore(tmp_path).save(content(1), 1, ["epoch_1.pt"])
    assert f"the checkpoint {tmp_path / 'epoch_1.pt'} cannot be written: No space" in str(
        raised.value
    )
    assert f"{tmp_path / 'step_000000001.pt'} is still good" in str(raised.value)


def test_epochs_are_copied_where_files_have_one_name_only(tmp_path, monkeypatch):
    def refused(*args):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    store = CheckpointStore(tmp_path, keep_last=1)
    store.save(content(1), 1, ["epoch_1.pt"])
    store.save(content(2), 2)
    assert names(tmp_path) == ["epoch_1.pt", "step_000000002.pt"]
    assert torch.load(tmp_path / "epoch_1.pt", weights_only=True)["global_step"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", lambda *args: refused())
        with pytest.raises(CheckpointNotWritten, match=r"epoch_3.pt cannot be written: Operation"):
            store.save(content(3), 3, ["epoch_3.pt"])
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_results_that_are_refused_are_named(tmp_path):
    path = tmp_path / "results.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(CannotWrite, match=r"results.jsonl cannot be written: No space left"):
        ResultsFile(path).append({"epoch": 1})


def test_log_that_is_refused_says_so_once_and_the_run_goes_on(tmp_path, capsys):
    (tmp_path / "out.log").symlink_to("/dev/full")
    log = RunLog(tmp_path)
    for text in ("one", "two", "three"):
        log.say(text)
    log.close()
    captured = capsys.readouterr()
    assert [line.split(" | ")[-1] for line in captured.out.splitlines()] == ["one", "two", "three"]
    (line,) = captured.err.splitlines()
    assert "out.log will lack lines from now on" in line and "No space left on device" in line
    assert logging.getLogger("fastclip.train").handlers == []


def test_run_ends_with_the_path_the_reason_and_what_is_good(tmp_path, capsys):
    """A disk that is full at the second epoch: the first one's checkpoint is whole."""
    settings = dict(
        train_num_samples=256, global_batch_size=128, micro_batch_size=128, save_every_steps=10**6
    )  # fmt: skip
    assert main(arguments(tmp_path, "run", epochs=1, **settings)) == 0
    capsys.readouterr()
    with files_of_at_most(100_000):
        status = main(arguments(tmp_path, "run", epochs=2, resume="latest", **settings))
    directory = tmp_path / "run" / "checkpoints"
    assert status == 2
    assert capsys.readouterr().err == (
        f"fastclip train: the checkpoint {directory / 'step_000000004.pt'} cannot be written: "
        f"File too large; {directory / 'step_000000002.pt'} is still good\n"
    )
    assert not [name for name in names(directory) if name.startswith(".")]
