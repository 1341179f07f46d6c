"""The benchmark of trainers, which is also the proof that the command line is open_clip's."""

import json
from pathlib import Path

import pytest

from fastclip.benchmarks import trainers

pytest.importorskip("pandas")
pytest.importorskip("webdataset")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    output = tmp_path_factory.mktemp("results")
    arguments = "--global-batch-size 96 --micro-batch-size 32 --steps 4 --rounds 1 --threads 1"
    # A budget for one graph of three stands for none and for all: both ways are gone.
    some_kept = {
        "fastclip": [*trainers.OURS, "--activation-budget", "7MiB"],
        trainers.BASELINE: trainers.TRAINERS[trainers.BASELINE],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "TRAINERS", some_kept)
        assert trainers.main([*arguments.split(), "--output", str(output)]) == 0
    (path,) = output.rglob("*.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_one_command_line_trains_alike_in_both(measured):
    """Weights, pairs, loss, AdamW and schedule: a difference in any shows in the losses."""
    theirs = measured["results"]["open_clip"]["losses"]
    assert len(theirs) == 4 and theirs[3] < theirs[0] - 0.02
    for name, row in measured["results"].items():
        assert row["losses"] == pytest.approx(theirs, abs=2e-3), name
        assert row["losses"][:2] == pytest.approx(theirs[:2], abs=2e-4), name


@pytest.mark.slow
def test_rounds_memory_and_command_are_kept(measured):
    assert "fastclip.benchmarks.trainers --global-batch-size 96" in measured["command"]
    for row in measured["results"].values():
        assert len(row["seconds"]) == len(row["peak_bytes"]) == 1
        assert row["seconds"][0] > 0 and row["peak_bytes"][0] > 2**27


@pytest.mark.slow
def test_trainer_that_fails_says_why(tmp_path):
    flags = ["--train-data", str(tmp_path / "none.csv")]
    with pytest.raises(RuntimeError, match=r"none\.csv"):
        trainers.train(trainers.OURS, flags, tmp_path, threads=1)


def test_table_compares_within_rounds():
    rows = {
        name: {"seconds": seconds, "losses": [1.0, 0.5], "peak_bytes": [2**20]}
        for name, seconds in {"fastclip": [1.0, 20.0, 3.0], "open_clip": [2.0, 40.0, 4.0]}.items()
    }
    assert "| fastclip | 3.000 | 0.50 | 1 | 1.0000, 0.5000 |" in trainers.table(rows)


def test_batch_that_is_no_multiple_is_refused(capsys):
    with pytest.raises(SystemExit):
        trainers.main(["--global-batch-size", "100", "--micro-batch-size", "32"])
    assert "multiple" in capsys.readouterr().err


def test_pairs_are_all_different(tmp_path):
    flags = trainers.prepare(Path(tmp_path), None, 50)
    rows = (tmp_path / "pairs.csv").read_text().splitlines()[1:]
    assert len(rows) == len({row.split("\t")[1] for row in rows}) == 50
    assert flags[1] == str(tmp_path / "pairs.csv")
