"""The check at a first use, and the file of verdicts, where several processes meet them."""

import dataclasses
import subprocess
import sys
import textwrap

import pytest

import fastclip
from fastclip.backends.gpu import own_verdicts
from tests.support import fake_gpu
from tests.support.fake_gpu import FEATURES, auto, nan, refused, rows


def test_a_check_that_took_its_process_down_is_not_repeated(machine, tmp_path, fresh_process):
    """The process dies in the middle of the check, as by a crash; so it does with a hang and a
    signal."""
    died = fresh_process.run(f"""
        import os, pathlib, pytest
        from tests.support import fake_gpu
        from fastclip.ops import dispatch
        import torch
        cache = pathlib.Path({str(tmp_path)!r})
        fake_gpu.install(pytest.MonkeyPatch(), cache, lambda *_: os._exit(3))
        dispatch.resolve_backend("auto", torch.ones(4, 10))
    """)
    assert died.returncode == 3, died.stderr
    called = machine()
    (row,) = rows()
    assert row.source == "begun"
    assert "began on" in fastclip.explain_backends(FEATURES)["triton"]
    assert "crashed, hung or was stopped" in refused() and not called
    (row,) = rows()
    assert row.source == "self-check" and not row.passed


def test_another_process_that_checks_is_waited_for(machine, tmp_path, monkeypatch):
    code = """
        import sys, pathlib, pytest, time, torch
        from tests.support import fake_gpu
        from fastclip.ops import dispatch
        def slow(name, results):
            print("begun", flush=True)
            time.sleep(0.3)
            return results
        fake_gpu.install(pytest.MonkeyPatch(), pathlib.Path(sys.argv[1]), slow)
        assert dispatch.resolve_backend("auto", torch.ones(4, 10)) == "triton"
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"begun\n"
    called = machine()
    with monkeypatch.context() as patch:
        patch.setattr(own_verdicts, "SECONDS_FOR_ANOTHER", 0.0)
        assert "another process still checks it" in refused()
    fake_gpu.new_process()
    assert auto() == "triton" and not called  # its verdict, when it has ended
    other.communicate(timeout=100)
    assert other.returncode == 0


def test_where_nothing_can_be_written_a_verdict_is_of_this_process(machine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    called = machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert auto() == auto() == "triton"
    assert called.count("contrastive_lse") == 3  # the batches of one check
    assert rows() == []
    machine(nan)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "off by nan" in refused()


def test_a_damaged_file_is_named_and_written_anew(machine, tmp_path):
    machine()
    own_verdicts.path().parent.mkdir()
    own_verdicts.path().write_text('{"verdicts": {}}')
    with pytest.warns(UserWarning, match=r"verdicts\.json is not used"):
        assert auto() == "triton"
    (row,) = rows()
    assert row.passed


def test_a_stale_verdict_counts_for_nothing(machine, monkeypatch):
    machine(nan)
    refused()
    environment = own_verdicts.environment
    monkeypatch.setattr(
        own_verdicts, "environment", lambda *kind: changed(environment(*kind), digest="other")
    )
    fake_gpu.new_process()
    called = machine()
    assert auto() == "triton" and called
    assert [row.passed for row in rows()] == [False, True]


def changed(environment, **changes):
    return dataclasses.replace(environment, **changes)
