"""A checkpoint's digest: what it notices, who reads the file all the same, and files without it."""

import os
import pickle
import zipfile

import pytest
import torch

from fastclip.train.checkpoints.file import (
    CHUNK,
    COMMENT_SIZE,
    MARK,
    UnusableCheckpoint,
    epoch_in,
    objection_to,
    read_checkpoint,
    shown,
    write_checkpoint,
)

CONTENT = {"epoch": 3, "state_dict": {"weight": torch.arange(5.0)}, "name": "of Käfer"}


@pytest.fixture
def path(tmp_path):
    write_checkpoint(tmp_path / "step_000000001.pt", CONTENT)
    return tmp_path / "step_000000001.pt"


@pytest.fixture
def older(tmp_path):
    """As earlier versions wrote it."""
    torch.save(CONTENT, tmp_path / "older.pt")
    return tmp_path / "older.pt"


def flipped(data, position, mask=0x10):
    changed = bytearray(data)
    changed[position] ^= mask
    return changed


def test_file_is_read_by_torch_and_as_a_zip(path):
    for mapped in (False, True):
        content = torch.load(path, weights_only=True, mmap=mapped)
        assert content["epoch"] == 3 and content["name"] == CONTENT["name"]
        assert torch.equal(content["state_dict"]["weight"], torch.arange(5.0))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment.startswith(MARK)


@pytest.mark.slow
def test_file_is_read_by_open_clip(path):
    from tests.support.peers import open_clip

    theirs = open_clip.factory.load_state_dict(str(path))
    assert torch.equal(theirs["weight"], torch.arange(5.0))


def test_every_changed_byte_of_the_file_is_noticed(path):
    """Tensors, names, headers, the directory of the archive, its end and the digest itself."""
    whole = path.read_bytes()
    assert objection_to(path) is None
    for position in [*range(0, len(whole), 5), *range(len(whole) - COMMENT_SIZE, len(whole))]:
        path.write_bytes(flipped(whole, position, 1 << position % 8))
        assert objection_to(path) is not None, position
    path.write_bytes(whole)
    assert objection_to(path) is None


def test_every_file_that_ends_too_early_is_noticed(path):
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 50), len(whole) - COMMENT_SIZE, len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert "not a whole file" in objection_to(path)
        path.write_bytes(whole[:size] + bytes(len(whole) - size))  # as after a loss of power
        assert objection_to(path) is not None


def test_digest_of_a_file_longer_than_a_chunk(tmp_path):
    path = tmp_path / "long.pt"
    write_checkpoint(path, {"x": torch.zeros(CHUNK)})
    assert objection_to(path) is None
    path.write_bytes(flipped(path.read_bytes(), 3 * CHUNK))
    assert "its bytes do not match the digest" in objection_to(path)


def test_file_of_an_earlier_version_is_read_and_its_checksums_hold(older):
    assert read_checkpoint(older)["epoch"] == 3 and objection_to(older) is None
    whole = older.read_bytes()
    place = whole.index(torch.arange(5.0).numpy().tobytes())
    for position in range(place, place + 20):
        older.write_bytes(flipped(whole, position))
        assert "is damaged" in objection_to(older)


def test_damage_of_an_earlier_file_is_an_objection_or_harmless_and_never_an_error(older):
    whole = older.read_bytes()
    for position in range(0, len(whole), 7):
        older.write_bytes(flipped(whole, position, 0x80))
        if objection_to(older) is None:
            content = read_checkpoint(older)
            assert torch.equal(content["state_dict"]["weight"], torch.arange(5.0))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def strangers(directory):
    """Files that are no checkpoints, and what is said of each."""
    torch.save(Evil(), directory / "evil.pt")
    torch.save(Evil(), directory / "legacy.pt", _use_new_zipfile_serialization=False)
    (directory / "pickle.pt").write_bytes(pickle.dumps(Evil()))
    (directory / "empty.pt").touch()
    (directory / "text.pt").write_text("hello\n" * 30)
    (directory / "folder.pt").mkdir()
    os.mkfifo(directory / "pipe.pt")
    (directory / "circle.pt").symlink_to("circle.pt")
    with zipfile.ZipFile(directory / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(10**6))
    return {
        "evil": "it holds more than tensors and plain values, and reading it could run code",
        "legacy": "not a whole file", "pickle": "not a whole file", "empty": "it is empty",
        "text": "not a whole file", "folder": "it is a directory", "pipe": "it is a pipe",
        "circle": "it cannot be read (Too many levels of symbolic links)",
        "bomb": "its parts are compressed or overlap",
    }  # fmt: skip


def test_files_of_strangers_are_refused_in_one_sentence_that_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, reason in strangers(tmp_path).items():
        path = tmp_path / f"{name}.pt"
        with pytest.raises(UnusableCheckpoint) as raised:
            read_checkpoint(path)
        assert reason in str(raised.value) and str(path) in str(raised.value)
        assert "weights_only" not in str(raised.value) and "\n" not in str(raised.value)
        assert reason in objection_to(path)
        assert epoch_in(path) is None
    assert not (tmp_path / "evil").exists()


def test_paths_that_are_none_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint at .*none\.pt"):
        read_checkpoint(tmp_path / "none.pt")
    assert objection_to(tmp_path / "none.pt") == "it is not there"
    with pytest.raises(UnusableCheckpoint, match=r"a\\x00b.*a null character"):
        read_checkpoint("a\0b")
    with pytest.raises(UnusableCheckpoint, match="File name too long") as raised:
        read_checkpoint("x" * 5000)
    assert len(str(raised.value)) < 400
    assert shown("a\nb") == r"'a\nb'"


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), PermissionError(13, "no")])
def test_storage_that_refuses_is_an_objection(path, error, monkeypatch):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("builtins.open", refuse)
    assert objection_to(path) == f"it cannot be read ({error.strerror})"


def test_objection_survives_a_way_between_processes(path):
    path.write_bytes(b"")
    with pytest.raises(UnusableCheckpoint) as raised:
        read_checkpoint(path)
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value) and again.reason == raised.value.reason


def test_epoch_is_read_without_the_tensors(path, older):
    assert epoch_in(path) == epoch_in(older) == 3
    assert epoch_in(path.with_name("none.pt")) is None
