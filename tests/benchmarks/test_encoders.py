"""The benchmark of encoders, on a model small enough for a test."""

import json

import pytest

from fastclip.benchmarks import encoders
from fastclip.models.registry import architectures
from tests.support.peers import open_clip, transformers  # noqa: F401
from tests.support.small_models import SMALL


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(architectures, "Small", SMALL["quick_gelu"])


def test_peers_compute_the_same_features_and_keep_more(small):
    results = encoders.measure("Small", batch_size=4, rounds=2)
    assert list(results) == ["fastclip", "open_clip", "transformers"]
    for name, row in results.items():
        assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0
        assert row["difference"] < 1e-5
        assert row["kept_bytes"] >= results["fastclip"]["kept_bytes"] > 0, name


def test_command_prints_a_table_and_writes_the_rounds(tmp_path, capsys):
    arguments = ["--model", "Small", "--batch-size", "2", "--rounds", "3", "--output"]
    assert encoders.main([*arguments, str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n| ") == 3 and "| open_clip |" in captured.out
    (path,) = tmp_path.rglob("*.json")
    content = json.loads(path.read_text())
    assert len(content["results"]["transformers"]["seconds"]) == 3
    assert "fastclip.benchmarks.encoders --model Small" in content["command"]


def test_batch_has_one_end_token_per_text():
    from tests.support.small_models import build

    images, tokens = encoders.make_batch(build(SMALL["vit"]), 3)
    assert images.shape == (3, 3, 32, 32)
    assert ((tokens == 63).sum(1) == 1).all() and (tokens[:, -1] == 63).all()
