"""How many shards a specification means: as many as for open_clip's trainer."""

import pytest

from fastclip.data.sources.shard_names import shard_paths
from tests.support.peers import open_clip  # noqa: F401

SPECS = {
    "a.tar": 1,
    "a_{000..000}.tar": 1,
    "a_{000..009}.tar": 10,
    "a_{00..03}_{00..02}.tar": 12,
    "a_{x,yy,z}.tar": 3,
    "b.tar::a_{000..009}.tar": 11,
    "a_{000..009}.tar::c_{8..12}.tar": 15,
    "a_{0..1}.tar::b_{0..2}.tar::c.tar": 6,
}


@pytest.mark.parametrize("spec, count", SPECS.items(), ids=SPECS)
def test_number_of_shards_is_open_clips(spec, count, tmp_path):
    from open_clip_train.data import get_dataset_size

    placed = "::".join(str(tmp_path / part) for part in spec.split("::"))
    (tmp_path / "first").write_bytes(b"0")
    paths = shard_paths(f"{placed}::{tmp_path / 'first'}")[:-1]
    assert len(paths) == len(set(paths)) == count
    assert get_dataset_size(placed)[1] == count
