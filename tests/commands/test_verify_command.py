"""`fastclip verify` where nothing can be verified, and its other words."""

import pytest
import torch

from fastclip import cli
from fastclip.backends.gpu import own_verdicts


@pytest.fixture(autouse=True)
def own_file(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_without_a_gpu_it_says_so_and_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["verify"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastclip verify: there is no GPU here: torch ")
    assert "Run this on the machine that trains" in error


def test_without_kernels_it_says_why(monkeypatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert cli.main(["verify", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "no kernels for a GPU run on cpu" in error
    assert "triton: it needs features on a GPU, got cpu" in error


def test_a_gpu_that_is_not_there_is_named(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert cli.main(["verify", "--device", "cuda:3"]) == 2
    assert "--device cuda:3: torch finds 1 GPU(s)" in capsys.readouterr().err


def test_a_device_that_is_none_is_an_error(capsys):
    assert cli.main(["verify", "--device", "fast"]) == 2
    assert "--device fast: " in capsys.readouterr().err


def test_without_verdicts_there_is_nothing_to_show_or_forget(capsys):
    assert cli.main(["verify", "--show"]) == 0
    assert f"no verdicts in {own_verdicts.path()}" in capsys.readouterr().out
    assert cli.main(["verify", "--forget"]) == 0
    assert "Forgot 0 verdicts" in capsys.readouterr().out


def test_a_file_that_cannot_be_removed_is_an_error(monkeypatch, capsys):
    def forget():
        raise PermissionError("no")

    monkeypatch.setattr(own_verdicts, "forget", forget)
    assert cli.main(["verify", "--forget"]) == 2
    assert "the file of verdicts cannot be used: no" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-3", "inf", "nan", "soon"])
def test_seconds_are_a_positive_number(seconds, capsys):
    with pytest.raises(SystemExit):
        cli.main(["verify", "--seconds", seconds])
    assert "--seconds: must be a number of seconds above 0" in capsys.readouterr().err
