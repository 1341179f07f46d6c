"""The user's file of verdicts: what is written is read, whatever else happens to the file."""

import dataclasses
import json
import os
import stat

import pytest
import torch

from fastclip.backends.gpu import environment as environments
from fastclip.backends.gpu import own_verdicts
from fastclip.backends.gpu.environment import Environment, environment
from fastclip.backends.gpu.own_verdicts import OwnVerdict
from tests.support.runs import server

HERE = Environment("NVIDIA H200", "sm_90", "570.86", "2.11.0", "3.6.0", "0.1.0", "abc")
ROW = OwnVerdict(
    HERE, "triton", "", "bfloat16", 768, True, "", "verify", "2026-11-30", 8192, 0.5, 1.5
)


def row(**changes) -> OwnVerdict:
    return dataclasses.replace(ROW, **changes)


def failed(reason: str, **changes) -> OwnVerdict:
    times = {"N": None, "forward_ms": None, "step_ms": None}
    return row(passed=False, reason=reason, **times, **changes)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_file_lies_in_the_users_cache(tmp_path, monkeypatch):
    assert own_verdicts.path() == tmp_path / "cache" / "fastclip" / "verdicts.json"
    monkeypatch.setenv("HOME", str(tmp_path))
    for relative in ("", "cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert own_verdicts.path() == tmp_path / ".cache" / "fastclip" / "verdicts.json"


def test_what_is_recorded_is_read_and_the_newest_counts():
    assert own_verdicts.read() == ()
    rows = [
        ROW, row(D=512), row(backend="cuda", variant="hopper"), row(primitive="siglip_sum"),
        row(dtype="float32"), row(dtype="float32", planes=2),
        row(backend="chunked"), row(backend="eager"), row(environment=changed(driver="571")),
    ]  # fmt: skip
    own_verdicts.record(rows)
    assert own_verdicts.read() == tuple(rows)
    wrong = failed('nan,\n"everywhere" \u20ac')
    own_verdicts.record([wrong])
    assert own_verdicts.read() == (*rows[1:], wrong)


def changed(**changes) -> Environment:
    return dataclasses.replace(HERE, **changes)


def test_one_row_is_withdrawn_unless_another_took_its_place():
    begun = failed("it has not ended", source="begun")
    own_verdicts.record([begun, row(D=512)])
    own_verdicts.withdraw(begun)
    assert own_verdicts.read() == (row(D=512),)
    own_verdicts.record([ROW])
    own_verdicts.withdraw(begun)
    assert set(own_verdicts.read()) == {ROW, row(D=512)}


def test_all_is_forgotten():
    assert own_verdicts.forget() == 0
    own_verdicts.record([ROW, row(D=512)])
    assert own_verdicts.forget() == 2
    assert own_verdicts.read() == () and not own_verdicts.path().exists()
    own_verdicts.path().write_text("damaged")
    assert own_verdicts.forget() == 0 and not own_verdicts.path().exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": None},
        {"backend": "cpu"},
        {"variant": "hopper"},
        {"dtype": "float64"},
        {"D": 640},
        {"D": 768.0},
        {"passed": 1},
        {"reason": "but"},
        {"source": "hearsay"},
        {"source": "begun"},
        {"date": "yesterday"},
        {"N": None},
        {"N": 0},
        {"forward_ms": 2.0},
        {"step_ms": float("nan")},
        {"passed": False, "reason": "wrong"},
        {"primitive": "cross_entropy"},
        {"planes": 0},
        {"planes": 2},
        {"planes": None},
    ],
    ids=str,
)
def test_malformed_rows_are_rejected(changes):
    with pytest.raises(ValueError):
        row(**changes)


def damaged() -> dict[str, bytes]:
    own_verdicts.record([ROW])
    good = own_verdicts.path().read_bytes()
    return {
        "cut": good[:-20],
        "empty": b"",
        "no text": b"\xff\xfe",
        "a list": b"[]",
        "no rows": b'{"verdicts": 3}',
        "deep": b"[" * 100_000,
        "large": good + b" " * own_verdicts.LARGEST,
    }


def test_a_damaged_file_is_refused_by_name_and_counts_as_empty():
    for name, content in damaged().items():
        own_verdicts.path().write_bytes(content)
        advice = r"verdicts\.json is not used: .*`fastclip verify"
        with pytest.warns(UserWarning, match=advice) as told:
            assert own_verdicts.read() == (), name
        assert len(told) == 1
    with pytest.warns(UserWarning, match="is not used"):
        own_verdicts.record([ROW])
    assert own_verdicts.read() == (ROW,)


@pytest.mark.parametrize(
    "unknown",
    [
        lambda row: 1,
        lambda row: {},
        lambda row: row | {"more": [1]},
        lambda row: row | {"D": "768"},
        lambda row: row | {"environment": "here"},
        lambda row: {key: value for key, value in row.items() if key != "date"},
    ],
    ids=["a number", "nothing", "a field too many", "a value", "environment", "a field too few"],
)
def test_rows_of_another_version_are_told_of_and_stay_as_they_are(unknown):
    own_verdicts.record([ROW, row(D=512)])
    content = json.loads(own_verdicts.path().read_bytes())
    theirs = unknown(content["verdicts"][0])
    content = {"format": 2, "verdicts": [content["verdicts"][0], theirs, content["verdicts"][1]]}
    own_verdicts.path().write_text(json.dumps(content))
    told = (
        r"^1 of 3 rows of .*verdicts\.json are not used: .* are kept .*`fastclip verify --forget`"
    )
    with pytest.warns(UserWarning, match=told):
        assert own_verdicts.read() == (ROW, row(D=512))
    own_verdicts.withdraw(row(D=512))
    own_verdicts.record([row(D=1024), failed("nan")])
    after = json.loads(own_verdicts.path().read_bytes())
    assert after["format"] == 2 and after["verdicts"][0] == theirs
    with pytest.warns(UserWarning, match=r"^1 of 3 rows"):
        assert own_verdicts.read() == (row(D=1024), failed("nan"))
    assert own_verdicts.forget() == 3


def test_what_cannot_be_written_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert own_verdicts.read() == ()
    for write in (lambda: own_verdicts.record([ROW]), lambda: own_verdicts.withdraw(ROW)):
        with pytest.raises(OSError, match=r"verdicts\.json"):
            write()
    with pytest.raises(OSError, match=r"verdicts\.json"), own_verdicts.only_checker():
        pass
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.expanduser", no_home)
    assert own_verdicts.read() == ()
    with pytest.raises(OSError, match="no home"):
        own_verdicts.record([ROW])


def no_home(path):
    raise RuntimeError("no home")


def test_a_file_that_may_not_be_read_counts_as_empty_and_is_not_changed(monkeypatch):
    own_verdicts.record([ROW])

    def forbidden(*args):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", forbidden)
        with pytest.warns(UserWarning, match="Permission denied"):
            assert own_verdicts.read() == ()
        for change, argument in ((own_verdicts.record, [row(D=512)]), (own_verdicts.withdraw, ROW)):
            with pytest.raises(OSError, match=r"verdicts\.json cannot be read: Permission denied"):
                change(argument)
    assert own_verdicts.read() == (ROW,)


def record_some(number: int, cache: str) -> None:
    os.environ["XDG_CACHE_HOME"] = cache
    for i in range(10):
        own_verdicts.record([row(environment=changed(digest=f"{number}.{i}"))])


def test_processes_that_record_at_once_lose_nothing():
    cache = os.environ["XDG_CACHE_HOME"]
    processes = [server().Process(target=record_some, args=(i, cache)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    digests = {row.environment.digest for row in own_verdicts.read()}
    assert digests == {f"{number}.{i}" for number in range(3) for i in range(10)}
    names = {path.name for path in own_verdicts.path().parent.iterdir()}
    assert names == {"verdicts.json", ".verdicts.json.lock"}


def test_the_file_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(own_verdicts, "MOST_ROWS", 2)
    own_verdicts.record([ROW, row(D=512), row(D=1024)])
    assert own_verdicts.read() == (row(D=512), row(D=1024))


def test_a_row_holds_where_it_was_written_and_nowhere_else(monkeypatch):
    device = torch.device("cpu")
    here = environment("triton", device)
    assert own_verdicts.is_current(row(environment=here), device)
    for field in dataclasses.fields(Environment):
        other = dataclasses.replace(here, **{field.name: "other"})
        assert not own_verdicts.is_current(row(environment=other), device)
        assert len(here.differences(other)) == 1 and here.differences(here) == []


def test_a_digest_is_of_the_kernels_of_its_backend(tmp_path, monkeypatch):
    for name in ("backends/triton/tiles.py", "backends/gpu/walk.py", "backends/chunked.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "_cuda.so").write_bytes(b"kernels")
    monkeypatch.setattr(environments, "PACKAGE", tmp_path)

    def digests():
        environments._digest.cache_clear()
        return {name: environments._digest(name) for name in environments.DIGESTED}

    def changes(path, text):
        before = digests()
        path.write_text(text)
        now = digests()
        return {name for name in now if now[name] != before[name]}

    assert len(set(digests().values())) == 4
    assert changes(tmp_path / "backends/triton/tiles.py", "other") == {"triton"}
    assert changes(tmp_path / "backends/gpu/walk.py", "other") == {"triton", "cuda"}
    assert changes(tmp_path / "_cuda.so", "other") == {"cuda"}
    assert changes(tmp_path / "backends/chunked.py", "other") == {"chunked"}
    environments._digest.cache_clear()


@pytest.mark.parametrize(
    "text, version",
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan", "570.86.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  R", "580.65.06"),
    ],
)
def test_the_driver_is_that_of_the_machine(tmp_path, monkeypatch, text, version):
    monkeypatch.setattr(environments, "NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.version, "hip", None)
    (tmp_path / "version").write_text(text)
    environments._driver.cache_clear()
    assert environments._driver() == version
    environments._driver.cache_clear()


def test_nobody_else_may_write_what_decides():
    own_verdicts.record([ROW])
    mode = stat.S_IMODE(os.stat(own_verdicts.path()).st_mode)
    assert not mode & 0o022
