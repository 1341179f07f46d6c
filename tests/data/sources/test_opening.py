import pytest

from fastclip.data.digits.source import DigitSource
from fastclip.data.sources.csv import CsvSource
from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.opening import find_type, open_source
from fastclip.data.sources.synthetic import SyntheticSource
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import captions, image_bytes, read_all, write_shards


def test_auto_finds_each_type(tmp_path):
    shards, images = tmp_path / "shards", tmp_path / "images"
    shards.mkdir()
    images.mkdir()
    write_shards(shards, [2, 1])
    (images / "a.png").write_bytes(image_bytes(1))
    (images / "a.txt").write_text("words")
    (tmp_path / "t.tsv").write_text("filepath\ttitle\na.png\twords\n")
    for spec, kind in (
        (shards, TarSource), (f"{shards}/{{000..001}}.tar", TarSource),
        (f"{shards}/000.tar::{shards}/001.tar", TarSource), (images, FolderSource),
        (tmp_path / "t.tsv", CsvSource), ("digits", DigitSource),
    ):  # fmt: skip
        assert type(open_source(spec)) is kind
    assert captions(read_all(open_source(shards))) == ["pair 0", "pair 1", "pair 2"]


def test_named_types_take_their_options(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("a;b\nx.png;words\n")
    source = open_source(path, "csv", separator=";", image_key="a", caption_key="b")
    assert captions(read_all(source)) == ["words"]
    source = open_source(None, "synthetic", num_samples=5, image_size=3)
    assert type(source) is SyntheticSource and source.num_samples() == 5
    assert open_source("digits-held-out", num_samples=10).num_samples() == 10


def test_a_folder_that_datasets_has_saved_is_theirs(tmp_path):
    (tmp_path / "dataset_info.json").touch()
    assert find_type(str(tmp_path)) == "hf"


@pytest.mark.parametrize(
    "name, kind", [("0.TAR", "webdataset"), ("0.tar", "webdataset"), ("._0.tar", "folder")]
)
def test_a_folder_is_of_shards_if_one_is_in_it(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert find_type(str(tmp_path)) == kind


def test_what_cannot_be_opened_raises_with_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"dataset_type must be one of .*'parquet'"):
        open_source("x", "parquet")
    with pytest.raises(ValueError, match="num_samples must be given"):
        open_source(None, "synthetic")
    with pytest.raises(ValueError, match="spec must be given"):
        open_source(None)
    with pytest.raises(FileNotFoundError, match="'nowhere'"):
        open_source("nowhere")
    with pytest.raises(FileNotFoundError, match="no shard"):
        open_source("nowhere/{0..3}.tar")
    with pytest.raises(ValueError, match="spec must be one of"):
        open_source("letters", "builtin")
    with pytest.raises(ValueError, match="image_key must be None for builtin data, got 'png'"):
        open_source("digits", image_key="png")
    (tmp_path / "a.zip").touch()
    with pytest.raises(ValueError, match="give its dataset_type"):
        open_source(tmp_path / "a.zip")
