"""What the benchmark of trainers says; `tests/hosts/test_trainers_alike.py` runs it."""

from pathlib import Path

import pytest

from fastclip.benchmarks import trainers


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
