"""Keys tell samples apart, wherever the data are, and put them into one order."""

import pytest

from fastclip.evaluate.sets.encoding import SetEncoder
from fastclip.evaluate.sets.opening import open_set
from tests.support.ideal import ideal_model
from tests.support.pair_files import image_bytes, tar_bytes


def write_shard(path, *numbers, name="same"):
    path.parent.mkdir(parents=True, exist_ok=True)
    members = []
    for place, number in enumerate(numbers):
        members += [(f"{name}{place}.png", image_bytes(number)), (f"{name}{place}.cls", b"1")]
    path.write_bytes(tar_bytes(members))


def labelled(spec):
    return SetEncoder(ideal_model(), 2, 0, 0.5).labelled(open_set(spec))


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("place", ["{root}/{folder}/0.tar", "{folder}/0.tar", "./{folder}/0.tar"])
def test_shards_of_one_name_in_two_folders_keep_their_folders(place, order, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shard(tmp_path / "a" / "0.tar", 1, 2)
    write_shard(tmp_path / "b" / "0.tar", 3, 4)
    found = labelled("::".join(place.format(root=tmp_path, folder=folder) for folder in order))
    assert found.keys == ["a/0.tar/same0", "a/0.tar/same1", "b/0.tar/same0", "b/0.tar/same1"]
    assert found.image_features.argmax(1).tolist() == [1, 2, 3, 4]


def test_a_folder_inside_of_the_other_keeps_what_is_below_both(tmp_path):
    write_shard(tmp_path / "a" / "0.tar", 1)
    write_shard(tmp_path / "a" / "b" / "0.tar", 2)
    found = labelled(f"{tmp_path}/a/b/0.tar::{tmp_path}/a/0.tar")
    assert found.keys == ["0.tar/same0", "b/0.tar/same0"]
    assert found.image_features.argmax(1).tolist() == [1, 2]


def test_a_key_that_is_there_twice_is_refused_by_name(tmp_path):
    write_shard(tmp_path / "0.tar", 1, 2)
    members = [("x.png", image_bytes(1)), ("x.cls", b"0"), ("y.png", image_bytes(2)),
               ("y.cls", b"0"), ("x.png", image_bytes(3)), ("x.cls", b"0")]  # fmt: skip
    (tmp_path / "1.tar").write_bytes(tar_bytes(members))
    with pytest.raises(ValueError, match=r"several are called 1\.tar/x$"):
        labelled(f"{tmp_path}/0.tar::{tmp_path}/1.tar")
