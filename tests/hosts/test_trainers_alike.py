"""The benchmark of trainers as it runs, which is also the proof that the command line is
open_clip's."""

import json

import pytest

from fastclip.benchmarks import trainers


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


def test_one_command_line_trains_alike_in_both(measured):
    """Weights, pairs, loss, AdamW and schedule: a difference in any shows in the losses."""
    theirs = measured["results"]["open_clip"]["losses"]
    assert len(theirs) == 4 and theirs[3] < theirs[0] - 0.02
    for name, row in measured["results"].items():
        assert row["losses"] == pytest.approx(theirs, abs=2e-3), name
        assert row["losses"][:2] == pytest.approx(theirs[:2], abs=2e-4), name


def test_rounds_memory_and_command_are_kept(measured):
    assert "fastclip.benchmarks.trainers --global-batch-size 96" in measured["command"]
    for row in measured["results"].values():
        assert len(row["seconds"]) == len(row["peak_bytes"]) == 1
        assert row["seconds"][0] > 0 and row["peak_bytes"][0] > 2**27
