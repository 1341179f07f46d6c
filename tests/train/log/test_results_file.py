import errno
import json
import os

import pytest

from fastclip.atomic_file import CannotRead, CannotWrite
from fastclip.train.log.results_file import ResultsFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


def aside(path):
    return path.with_name("results_set_aside.jsonl")


def test_lines_are_appended_and_found_by_their_epoch(path):
    results = ResultsFile(path)
    assert not results.has_epoch(1)
    results.append({"epoch": 1, "R@1": 0.5})
    results.append({"epoch": 12})
    lines = [json.loads(line) for line in results.path.read_text().splitlines()]
    assert lines == [{"epoch": 1, "R@1": 0.5}, {"epoch": 12}]
    for found in (results, ResultsFile(path)):
        assert found.has_epoch(1) and found.has_epoch(12) and not found.has_epoch(2)
        assert found.epochs == {1, 12}


def test_half_a_line_of_a_killed_process_is_removed(path):
    whole = '{"epoch": 1}\n{"epoch": 2}\n'
    for length in range(len(whole) + 1):
        path.write_text(whole[:length])
        results = ResultsFile(path)
        kept = path.read_text()
        assert kept == whole[: whole[:length].rfind("\n") + 1]
        assert [results.has_epoch(epoch) for epoch in (1, 2)] == [
            f'{{"epoch": {epoch}}}' in kept for epoch in (1, 2)
        ]
        results.append({"epoch": 3})
        assert results.has_epoch(3)


@pytest.mark.parametrize(
    "bad",
    [b"", b" ", b"no json", b'{"epoch": 1', b"\0" * 100, b"\xff\xfe", b"[1]", b"1", b"{}",
     b'{"epoch": "1"}', b'{"epoch": true}', b'{"epoch": 1.5}', b"[" * 100_000, b"9" * 10_000],
)  # fmt: skip
def test_line_that_is_no_result_is_set_aside_and_named(bad, path):
    first, last = b'{"epoch": 1, "R@1": 0.5}\n', b'{"epoch": 2}\n'
    path.write_bytes(first + bad + b"\n" + last)
    told = []
    results = ResultsFile(path, told.append)
    assert results.epochs == {1, 2} and path.read_bytes() == first + last
    assert aside(path).read_bytes() == bad + b"\n"
    assert told == [f"line 2 of {path} (no results of an epoch) is set aside in {aside(path)}"]
    ResultsFile(path, told.append)
    assert len(told) == 1  # once


def test_many_lines_are_counted(path):
    path.write_bytes(b"x\n" * 7)
    told = []
    ResultsFile(path, told.append)
    assert told[0].startswith(f"lines 1, 2, 3, 4, 5 and 2 more of {path} (no results")
    assert aside(path).read_bytes() == b"x\n" * 7 and path.read_bytes() == b""


def test_later_epochs_are_set_aside(path):
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n')
    told = []
    results = ResultsFile(path, told.append)
    results.keep_until(3)
    assert not told
    results.keep_until(1)
    assert told == [f"lines 2, 3 of {path} (of epochs after 1) are set aside in {aside(path)}"]
    assert results.epochs == {1} and path.read_text() == '{"epoch": 1}\n'
    assert aside(path).read_text() == '{"epoch": 2}\n{"epoch": 3}\n'


@pytest.mark.parametrize("refused", ["fsync", "replace"])
def test_repair_that_the_disk_refuses_loses_no_line(refused, path, monkeypatch):
    content = b'{"epoch": 1}\nbad\n{"epoch": 2}\n'
    path.write_bytes(content)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, refused, full)
        with pytest.raises(CannotWrite, match=r"results.*jsonl cannot be written: No space left"):
            ResultsFile(path)
    assert path.read_bytes() == content
    assert ResultsFile(path).epochs == {1, 2}
    assert [name for name in os.listdir(path.parent) if name.startswith(".")] == []


def test_file_that_cannot_be_read_is_named(path, monkeypatch):
    path.write_text('{"epoch": 1}\n')

    def refuse(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CannotRead, match=r"results.jsonl cannot be read: Input/output error"):
        ResultsFile(path)
