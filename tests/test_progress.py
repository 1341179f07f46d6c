import logging
import sys

import pytest

from fastclip import progress
from fastclip.progress import LineHandler, progress_bar


def test_bar_shows_how_far_a_resumed_epoch_is(capsys):
    with progress_bar(10, done=4, title="epoch 3") as advance:
        for _ in range(6):
            advance(1, "loss 1.5")
    last = capsys.readouterr().err.split("\r")[-1]
    assert "epoch 3" in last and "10/10" in last and "loss 1.5" in last


def test_nothing_is_shown_where_nobody_looks(capsys):
    with progress_bar(10, shown=False) as advance:
        advance(10, "")
    assert capsys.readouterr().err == ""


def test_bar_without_tqdm_is_none(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar(10) as advance:
        advance(10, "")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("watched", [True, False])
def test_lines_reach_standard_output_whether_there_is_a_bar_or_not(watched, monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_watched", lambda: watched)
    handler = LineHandler()
    with progress_bar(2, shown=watched) as advance:
        advance(1, "")
        handler.emit(logging.makeLogRecord({"msg": "a line", "levelno": logging.INFO}))
    assert capsys.readouterr().out == "a line\n"
