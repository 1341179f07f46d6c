"""Files that are written whole: beside their place, under names that nobody can lay a link at."""

import errno
import os
import pickle

import pytest

from fastclip import atomic_file
from fastclip.atomic_file import (
    CannotRead,
    CannotWrite,
    name_again,
    reading,
    remove_temporaries,
    replacing,
    temporary_beside,
)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def refusing(number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return refuse


def write(path, content, tell=lambda text: None):
    with replacing(path, tell) as file:
        file.write(content)


@pytest.mark.parametrize("kind", [CannotRead, CannotWrite])
def test_error_survives_a_way_between_processes(kind):
    error = kind("a.pt", OSError(errno.EIO, "Input/output error"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errno) == (kind, str(error), errno.EIO)


def test_names_beside_a_file_are_new_each_time(tmp_path):
    many = {temporary_beside(tmp_path / "a.pt").name for _ in range(100)}
    assert len(many) == 100
    assert all(name.startswith(".a.pt.") and str(os.getpid()) != name[6:] for name in many)


@pytest.mark.parametrize("planted", ["link", "dangling link", "file"])
@pytest.mark.parametrize("act", ["replacing", "name_again"])
def test_what_lies_at_the_name_beside_is_never_written_to(act, planted, tmp_path, monkeypatch):
    """As if someone had foreseen the name: it is refused, and nothing else is touched."""
    victim, place = tmp_path / "victim", tmp_path / ".foreseen"
    (tmp_path / "a.pt").write_bytes(b"old")
    if planted == "file":
        place.write_bytes(b"theirs")
    else:
        if planted == "link":
            victim.write_bytes(b"theirs")
        place.symlink_to(victim)
    monkeypatch.setattr(atomic_file, "temporary_beside", lambda path: place)
    with pytest.raises(CannotWrite, match="File exists"):
        if act == "replacing":
            write(tmp_path / "a.pt", b"new")
        else:
            name_again(tmp_path / "a.pt", tmp_path / "b.pt")
    assert (tmp_path / "a.pt").read_bytes() == b"old" and not (tmp_path / "b.pt").exists()
    assert os.path.lexists(place) and victim.exists() == (planted == "link")
    if planted == "link":
        assert victim.read_bytes() == b"theirs"


def test_link_at_the_place_itself_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"theirs")
    (tmp_path / "a.pt").symlink_to(tmp_path / "victim")
    write(tmp_path / "a.pt", b"new")
    assert not (tmp_path / "a.pt").is_symlink() and (tmp_path / "a.pt").read_bytes() == b"new"
    assert (tmp_path / "victim").read_bytes() == b"theirs"


def test_error_in_the_middle_leaves_the_old_file_and_nothing_beside(tmp_path):
    write(tmp_path / "a.pt", b"old")
    with pytest.raises(KeyError), replacing(tmp_path / "a.pt") as file:
        file.write(b"half")
        raise KeyError
    assert names(tmp_path) == ["a.pt"] and (tmp_path / "a.pt").read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_directory_that_cannot_be_flushed_is_told_of_and_the_file_is_there(
    number, tmp_path, monkeypatch
):
    fsync = os.fsync

    def flush(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    told = []
    write(tmp_path / "a.pt", b"new", told.append)
    assert (tmp_path / "a.pt").read_bytes() == b"new"
    assert len(told) == 1 and f"the file system of {tmp_path} cannot flush a directory" in told[0]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_directory_that_fails_to_be_flushed_is_an_error(number, tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_file, "_flush_directory", refusing(number))
    with pytest.raises(CannotWrite, match=f"a.pt cannot be written: {os.strerror(number)}"):
        write(tmp_path / "a.pt", b"new")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL])
def test_second_name_is_a_copy_where_files_have_one(number, tmp_path, monkeypatch):
    write(tmp_path / "a.pt", b"content")
    monkeypatch.setattr(os, "link", refusing(number))
    told = []
    name_again(tmp_path / "a.pt", tmp_path / "b.pt", told.append)
    assert (tmp_path / "b.pt").read_bytes() == b"content"
    assert not (tmp_path / "b.pt").samefile(tmp_path / "a.pt")
    assert len(told) == 1 and "cannot give a file a second name" in told[0]
    assert names(tmp_path) == ["a.pt", "b.pt"]


def test_second_name_replaces_what_is_there_and_may_be_the_first(tmp_path):
    write(tmp_path / "a.pt", b"new")
    write(tmp_path / "b.pt", b"old")
    for name in ("b.pt", "b.pt", "a.pt"):
        name_again(tmp_path / "a.pt", tmp_path / name)
    assert (tmp_path / "b.pt").samefile(tmp_path / "a.pt") and names(tmp_path) == ["a.pt", "b.pt"]


def test_what_killed_processes_left_is_removed_by_its_names_alone(tmp_path):
    mine = temporary_beside(tmp_path / "step_1.pt")
    for name in (mine.name, ".step_2.pt.4711", ".other.pt.4711", "step_1.pt", ".step_1.pt.swp"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, r"step_\d+\.pt")
    assert names(tmp_path) == [".other.pt.4711", ".step_1.pt.swp", "step_1.pt"]


def test_refused_read_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(CannotRead, match="results cannot be read: Input/output error"):
        with reading(tmp_path / "results"):
            refusing(errno.EIO)()
