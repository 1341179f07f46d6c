"""The benchmark of embedding, on a model and images small enough for a test."""

from fastclip.benchmarks import embedding
from tests.support.ready import tiny_directory


def test_command_prints_both_ways_to_decode(tmp_path, capsys):
    model = tiny_directory(tmp_path / "model")
    assert embedding.main(["--model", str(model), "--images", "3"]) == 0
    told = capsys.readouterr().out
    assert "trained weights, 3 drawn images, 2 threads" in told
    exact, fast = (line.split(" | ") for line in told.splitlines()[-2:])
    assert exact[0] == "| exact" and fast[0] == "| fast"
    assert float(exact[5]) > 0.9999 and 0.9 < float(fast[5]) <= 1.0001
    assert all(float(row[i].replace(",", "")) > 0 for row in (exact, fast) for i in (1, 2, 3))
