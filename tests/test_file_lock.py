"""A lock between processes: who waits, how long, and what ends it."""

import errno
import fcntl
import os
import stat
import sys

import pytest

from fastclip.file_lock import locked, open_to_lock, try_to_lock
from tests.support.runs import server


def hold(path, connection):
    with locked(path):
        connection.send("held")
        connection.recv()
    os._exit(0)


@pytest.fixture
def held(tmp_path):
    """A file that another process has locked, and how to make it let go."""
    path = tmp_path / "lock"
    ours, theirs = server().Pipe()
    process = server().Process(target=hold, args=(path, theirs))
    process.start()
    assert ours.recv() == "held"
    yield path, process, ours
    process.kill()
    process.join()


def test_one_process_is_inside_at_a_time(held):
    path, process, connection = held
    file = open_to_lock(path)
    assert not try_to_lock(file)
    with pytest.raises(TimeoutError, match="lock for 0 s"), locked(path, 0.0):
        pytest.fail("two were inside")
    connection.send("let go")
    with locked(path, 60.0):
        process.join(60)
    assert try_to_lock(file)
    os.close(file)


def test_a_killed_process_leaves_no_lock(held):
    path, process, _ = held
    process.kill()
    process.join()
    with locked(path, 0.0):
        assert path.exists()
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


def test_a_file_that_cannot_be_locked_is_an_error_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="link cannot be written"), locked(tmp_path / "link"):
        pytest.fail("a link was followed")

    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    path = tmp_path / "lock"
    with pytest.raises(OSError, match="lock cannot be written: No locks"), locked(path):
        pytest.fail("nothing was locked")
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as under Windows
    with pytest.raises(OSError, match="this system cannot lock files"), locked(path):
        pytest.fail("nothing was locked")
