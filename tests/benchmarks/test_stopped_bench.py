"""Ctrl-C keeps what is measured and says where it is; piped, progress is lines of a log."""

import json

import pytest

from fastclip.benchmarks import choice, telling
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import find_provider
from fastclip.cli import STOPPED, main

BENCH = ["bench", "loss", "--d", "8", "--rounds", "2", "--budget", "0", "--no-memory"]


@pytest.fixture
def stopping(monkeypatch):
    """A provider beside the reference that is stopped on 32 pairs, in the second round."""
    calls = []

    def stops(image_features, text_features, logit_scale):
        calls.append(len(image_features))
        if calls.count(32) == 8:  # two warm up, and a turn has five at most
            raise KeyboardInterrupt
        return logit_scale * (image_features * text_features).sum()

    entries = (
        find_provider("clip", "fastclip/reference"), Provider("stops", "clip", lambda: stops)
    )  # fmt: skip
    monkeypatch.setattr(choice, "providers", lambda objective: entries)
    monkeypatch.setattr("fastclip.benchmarks.timing.MAX_CALLS", 5)
    # Figures have tests of their own.
    monkeypatch.setattr("fastclip.benchmarks.record.objection_to_plots", lambda objective: "none")


def test_what_is_measured_by_then_is_kept_and_named(stopping, tmp_path, capsys):
    assert main([*BENCH, "--n", "16", "32", "64", "--output", str(tmp_path)]) == STOPPED
    told = capsys.readouterr()
    (path,) = tmp_path.glob("*/*.json")
    last = told.err.splitlines()[-1]
    assert (
        last
        == f"fastclip bench: stopped; 4 of 4 rows that had begun were timed; they are in {path}"
    )
    content = json.loads(path.read_text())
    assert content["complete"] is False
    assert [row["timing"]["rounds"] for row in content["rows"]] == [2, 2, 1, 1]
    assert "This run was stopped before its end." in told.out
    assert path.with_suffix(".md").read_text() == told.out


def test_without_output_the_table_is_printed_and_that_nothing_is_written_is_said(stopping, capsys):
    assert main([*BENCH, "--n", "32"]) == STOPPED
    told = capsys.readouterr()
    assert "| fastclip/reference |" in told.out
    assert told.err.endswith("timed; they are not written, because --output was not given\n")


def test_rows_that_have_no_round_say_that_they_were_stopped(monkeypatch, tmp_path, capsys):
    def stops(*inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        choice, "providers", lambda objective: (Provider("stops", "clip", lambda: stops),)
    )
    assert main([*BENCH, "--n", "16", "--output", str(tmp_path)]) == STOPPED
    told = capsys.readouterr()
    assert told.out == "" and "0 of 1 rows" in told.err
    (path,) = tmp_path.glob("*/*.json")
    assert main(["bench", "report", str(path)]) == 0
    assert "stopped before it was measured" in capsys.readouterr().out


def test_progress_that_is_piped_is_a_line_every_few_seconds(capsys):
    now = 100.0
    tell = telling.log_lines(lambda: now)
    for seconds in (0.0, 1.0, 4.0, 6.0, 7.0, 12.5):
        now = 100.0 + seconds
        tell(f"at {seconds}")
    printed = capsys.readouterr().err.splitlines()
    assert printed == [f"fastclip bench, {x:.0f} s: at {x}" for x in (0.0, 6.0, 12.5)]
