"""What `fastclip.integrations.ray.embed` refuses before anything starts."""

import sys

import pytest

from fastclip.integrations.ray import ShardsFailed, embed
from tests.support.stub_model import numbered_model

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_shards": 0}, ValueError, "num_shards must be at least 1"),
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1"),
        ({"retries": -1}, ValueError, "retries must be at least 0"),
        ({"source": "-"}, ValueError, "not standard input"),
        ({"source": object()}, ValueError, "a name that all machines know"),
        ({"device": "cpu"}, ValueError, "are for a model that is named"),
        ({"shard": (0, 2)}, TypeError, "unexpected keyword argument 'shard'"),
        ({"resume": False}, TypeError, "'resume'"),
        ({"stores": "f16"}, TypeError, "'stores'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path, changes, error, message):
    arguments = {"source": tmp_path, "model": numbered_model, "out": tmp_path / "out"}
    with pytest.raises(error, match=message):
        embed(**(arguments | {"num_shards": 2} | changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "parts"), [("shard_0_of_8", "8"), ("embeddings.json", "1")])
def test_folder_that_was_divided_otherwise_is_refused(tmp_path, name, parts):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"has embeddings in {parts} parts, not 2"):
        embed(tmp_path, numbered_model, tmp_path, num_shards=2)


def test_without_ray_the_error_says_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match='pip install "ray'):
        embed(tmp_path, numbered_model, tmp_path / "out", num_shards=2)


def test_failure_says_how_many_shards_and_the_first_reason():
    error = ShardsFailed({3: "DataError: y", 5: "ValueError: x"}, 8)
    assert str(error) == (
        "2 of 8 shards are not complete, and the same call goes on with them; shard 3: DataError: y"
    )
