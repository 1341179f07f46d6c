"""A local Ray of two workers, of which one is killed: nothing is lost, and nothing twice there."""

from pathlib import Path

import numpy as np
import pytest
import ray

from fastclip.embeddings import embed as embed_here
from fastclip.embeddings import open_embeddings
from fastclip.integrations.ray import ShardsFailed, embed
from tests.support.mortal_model import MortalModel
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model

# Those of Ray are Ray's: it leaves sockets and processes to the end of the process.
pytestmark = pytest.mark.filterwarnings("default")
NUM, SHARDS = 120, 4
SETTINGS = {"rows_per_file": 5, "batch_size": 2, "workers": 2, "metadata": "jsonl"}


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # a token would be left in the home directory
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20
        )
        yield
        ray.shutdown()


def write_images(folder: Path) -> Path:
    folder.mkdir()
    for i in range(NUM):
        (folder / f"{i:03d}.png").write_bytes(image_bytes(i))
        (folder / f"{i:03d}.txt").write_text(f"number {i}")
    return folder


def test_killed_workers_and_bad_shards_leave_what_one_process_would_have_written(
    cluster, tmp_path, monkeypatch
):
    source, out = write_images(tmp_path / "in"), tmp_path / "out"
    for i in range(90, 110):
        (source / f"{i:03d}.png").write_bytes(b"no image")
    embed_here(numbered_model(), source, tmp_path / "whole", max_bad_rate=1, **SETTINGS)
    whole = open_embeddings(tmp_path / "whole")
    monkeypatch.chdir(tmp_path)
    model = MortalModel(tmp_path / "notes", out / "shard_1_of_4")
    job = dict(num_shards=SHARDS, concurrency=2, **SETTINGS)

    # Killed, with no second chance; and too bad: the other two shards are done all the same.
    with pytest.raises(ShardsFailed, match=r"2 of 4 .*Shard 1: .*killed, 1 in all") as told:
        embed("in", model.dying_of(50), "out", retries=0, **job)
    assert list(told.value.reasons) == [1, 3]
    assert told.value.reasons[3].startswith("DataError: 66.7% of the inputs cannot be embedded")
    assert {path.name for path in out.iterdir()} == {f"shard_{i}_of_4" for i in range(4)}
    assert 0 < model.rows_when_killed(50) < NUM // SHARDS

    # Killed in what was left of it, and begun again.
    calls = []
    job |= {"max_bad_rate": 1, "progress": lambda *at: calls.append(at)}
    found = embed("in", model.dying_of(58), "out", **job)
    # Images are decoded ahead: not a row need be complete between the two.
    assert model.rows_when_killed(50) <= model.rows_when_killed(58) < NUM // SHARDS
    assert len(list(model.notes.glob("pid_*"))) >= 5  # twice two, and one in place of each dead
    assert found == (100, 120, 20) and calls[-1] == (SHARDS, SHARDS)
    union = open_embeddings(out, verify=True)
    assert len(union) == len(whole) == 100
    for ours, theirs in ((union.images, whole.images), (union.texts, whole.texts)):
        assert np.array_equal(ours.rows(range(100)), theirs.rows(range(100)))
    assert union.metadata(range(100)) == whole.metadata(range(100))
    with pytest.raises(ValueError, match="in 4 shards, not 5"):
        embed("in", model, "out", **(job | {"num_shards": 5}))
