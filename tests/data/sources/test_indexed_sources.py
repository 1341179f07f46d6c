import sys
from types import SimpleNamespace

import pytest
import torch

from fastclip.data.sources.hugging_face import HuggingFaceSource, load_hugging_face
from fastclip.data.sources.synthetic import SyntheticSource
from tests.support.pair_files import assert_resumable, captions, image_bytes, read_all, reasons


class FakeDataset:
    """What of a `datasets.Dataset` is used."""

    def __init__(self, rows: list) -> None:
        self.rows = rows
        self.column_names = ["image", "text"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        if isinstance(row, Exception):
            raise row
        return dict(zip(self.column_names, row, strict=True))


def test_synthetic_samples_are_functions_of_number_and_seed():
    source = SyntheticSource(130, (4, 6), seed=3)
    assert [part.stop - part.start for part in source.parts()] == [64, 64, 2]
    again, other = SyntheticSource(130, (4, 6), seed=3), SyntheticSource(130, (4, 6), seed=4)
    sample = source.load(70)
    assert sample.image.shape == (3, 4, 6) and sample.image.dtype == torch.uint8
    assert torch.equal(sample.image, again.load(70).image)
    assert sample.caption == again.load(70).caption
    assert not torch.equal(sample.image, other.load(70).image)
    assert len(set(captions(read_all(source)))) == 130
    assert_resumable(source)


@pytest.mark.parametrize("num_samples, size", [(0, 4), (3, 0), (3, (4, -1))])
def test_synthetic_without_extent_raises(num_samples, size):
    with pytest.raises(ValueError, match="must be positive"):
        SyntheticSource(num_samples, size)


def test_rows_of_a_hugging_face_dataset_in_all_forms_of_images():
    image = image_bytes(1)
    rows = [
        (image, "bytes"),
        ("/a.jpg", "path"),
        ({"bytes": image, "path": None}, "undecoded"),
        ({"bytes": None, "path": "/b.jpg"}, ["first", "second"]),
    ]
    source = HuggingFaceSource(FakeDataset(rows))
    items = read_all(source)
    assert captions(items) == ["bytes", "path", "undecoded", "first"]
    assert [item.image for item in items] == [image, "/a.jpg", image, "/b.jpg"]
    assert_resumable(source)


def test_bad_rows_of_a_hugging_face_dataset_are_counted():
    rows = [(None, "a"), (b"", None), (b"", " "), (b"", []), OSError("no disk"), (b"", "good")]
    items = read_all(HuggingFaceSource(FakeDataset(rows)))
    assert captions(items) == ["good"]
    assert reasons(items) == [
        "no image", "no caption", "empty caption", "no caption", "unreadable row",
    ]  # fmt: skip


def test_hugging_face_wrong_columns_streams_and_no_rows_raise():
    dataset = FakeDataset([(b"", "a")])
    with pytest.raises(ValueError, match=r"image_key .*'jpg'.*\['image', 'text'\]"):
        HuggingFaceSource(dataset, image_key="jpg")
    with pytest.raises(ValueError, match="caption_key"):
        HuggingFaceSource(dataset, caption_key="caption")
    with pytest.raises(TypeError, match="without streaming"):
        HuggingFaceSource(iter([1]))
    with pytest.raises(ValueError, match="at least one row"):
        HuggingFaceSource(FakeDataset([]))


def test_hugging_face_datasets_are_loaded_by_name_or_from_disk_with_images_undecoded(
    tmp_path, monkeypatch
):
    class Image(SimpleNamespace):
        pass

    dataset = FakeDataset([("decoded", "words")])
    dataset.features = {"image": Image()}
    dataset.cast_column = lambda column, feature: FakeDataset([(f"{column}, {feature}", "words")])
    loaded = []
    package = SimpleNamespace(
        Image=Image,
        load_dataset=lambda name, split: loaded.append((name, split)) or dataset,
        load_from_disk=lambda name: loaded.append(name) or {"train": dataset},
    )
    monkeypatch.setitem(sys.modules, "datasets", package)
    (tmp_path / "dataset_dict.json").touch()
    for source in (load_hugging_face("some/name", "test"), load_hugging_face(tmp_path)):
        assert source.load(0).image == "image, Image(decode=False)"
    assert loaded == [("some/name", "test"), str(tmp_path)]
    with pytest.raises(ValueError, match=r"split must be one of \['train'\], got 'test'"):
        load_hugging_face(tmp_path, "test")


def test_hugging_face_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match='pip install "datasets'):
        load_hugging_face("some/name")
