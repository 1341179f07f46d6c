"""One run per directory: who holds it, who is refused, and what a killed process leaves."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import time

import pytest

from fastclip.cli import main
from fastclip.train.run.directory_lock import FILE_NAME, DirectoryLock
from tests.support.runs import arguments, server


def hold(directory, connection):
    """Lock the directory, with a worker that was forked, and wait to be killed."""
    lock = DirectoryLock(directory)
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    connection.send(worker.pid)
    signal.pause()
    lock.close()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a directory, and the number of its worker."""
    directory = tmp_path / "mine"
    directory.mkdir()
    processes = server()
    ours, theirs = processes.Pipe()
    process = processes.Process(target=hold, args=(directory, theirs))
    process.start()
    worker = ours.recv()
    yield directory, process, worker
    process.kill()
    process.join()
    os.kill(worker, signal.SIGKILL)


def test_second_run_is_refused_by_name_before_it_touches_anything(holder, capsys):
    directory, process, _ = holder
    (directory / "checkpoints").mkdir()
    temporary = directory / "checkpoints" / f".step_000000001.pt.{process.pid}"
    temporary.touch()
    for resume in ({}, {"resume": "latest"}):
        assert main(arguments(directory.parent, "mine", **resume)) == 2
        told = capsys.readouterr().err
        assert f"(process {process.pid} on {socket.gethostname()}, started 2" in told
        assert "wait for its end, stop it or choose another --name" in told
    assert {path.name for path in directory.iterdir()} == {"checkpoints", FILE_NAME}
    assert temporary.exists()


def test_killed_process_leaves_no_lock_though_its_worker_lives(holder):
    directory, process, worker = holder
    with pytest.raises(ValueError, match=f"process {process.pid} on"):
        DirectoryLock(directory)
    process.kill()
    process.join()
    os.kill(worker, 0)
    lock = DirectoryLock(directory)
    assert json.loads((directory / FILE_NAME).read_text())["pid"] == os.getpid()
    lock.close()
    assert (directory / FILE_NAME).read_text() == "" and lock.caution is None


def written_by(pid, host):
    return json.dumps({"pid": pid, "host": host, "started": "2026-01-01 00:00:00"})


@pytest.fixture
def without_locks(monkeypatch):
    """As on a network's file system whose server has none."""

    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)


def test_without_locks_a_process_of_this_machine_is_found(without_locks, tmp_path):
    (tmp_path / FILE_NAME).write_text(written_by(os.getppid(), socket.gethostname()))
    with pytest.raises(ValueError, match=f"process {os.getppid()} on .* if that process is not"):
        DirectoryLock(tmp_path)


@pytest.mark.parametrize(
    "content, told",
    [
        ("", "both"),
        ("[3", "both"),
        (written_by(2**22 + 1, socket.gethostname()), "the last run in it was process 4194305"),
        (written_by(1, "elsewhere\n"), r"process 1 on elsewhere\n, started 2026-01-01"),
    ],
)
def test_without_locks_what_is_not_noticed_is_said(content, told, without_locks, tmp_path):
    (tmp_path / FILE_NAME).write_text(content)
    lock = DirectoryLock(tmp_path)
    assert "cannot be locked (No locks available)" in lock.caution and told in lock.caution
    lock.close()


def test_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="lock cannot be written"):
        DirectoryLock(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"
