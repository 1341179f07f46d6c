import os

import pytest

from fastclip.data.sources.folder import FolderSource
from fastclip.data.sources.tar_shards import TarSource
from tests.support.pair_files import (
    assert_resumable,
    captions,
    image_bytes,
    read_all,
    reasons,
    tar_bytes,
)


def test_images_of_all_folders_are_paired_with_their_captions_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name, caption in (("b/x.webp", "three"), ("a.jpg", "one"), ("a2.PNG", "two")):
        (tmp_path / name).write_bytes(image_bytes(1))
        (tmp_path / name).with_suffix(".txt").write_text(caption + "\n")
    source = FolderSource(tmp_path)
    items = read_all(source)
    assert captions(items) == ["one", "two", "three"]
    assert items[2].image == f"{tmp_path}/b/x.webp" and items[2].key == "b/x.webp"
    assert source.num_samples() == 3
    assert_resumable(source)


def test_what_has_no_partner_or_no_words_is_bad(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "c.txt").write_text("  ")
    (tmp_path / "d.txt").symlink_to("d.txt")  # leads to itself
    (tmp_path / "e.txt").write_text("alone")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "f.jpg").write_bytes(b"")
    items = read_all(FolderSource(tmp_path))
    assert captions(items) == ["good"]
    assert reasons(items) == ["no caption", "empty caption", "unreadable caption", "no image"]


def test_captions_and_images_have_suffixes_in_any_case(tmp_path):
    for i, (image, caption) in enumerate((("JPG", "TXT"), ("Jpeg", "Txt"), ("png", "tXT"))):
        (tmp_path / f"{i}.{image}").write_bytes(image_bytes(i))
        (tmp_path / f"{i}.{caption}").write_text(f"caption {i}")
    items = read_all(FolderSource(tmp_path))
    assert captions(items) == ["caption 0", "caption 1", "caption 2"] and reasons(items) == []


def test_files_are_samples_parts_of_one_or_counted(tmp_path):
    for name in (
        "v1.0000.jpg", "v1.0000.txt", "v1.0000.json", "v1.0001.jpg", "v1.0001.txt", "0.jpg",
        "0.png", "0.txt", "0.seg.png", "0.jpg.json", "1.gif", "1.txt", "notes.md", "a/list.csv",
        "a/b/2.tif", "a/b/2.txt", "Thumbs.db", "__MACOSX/3.jpg",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    source = FolderSource(tmp_path)
    items = read_all(source)
    assert [item.key for item in items] == [
        "0.jpg", "1.gif", "a/b/2.tif", "v1.0000.jpg", "v1.0001.jpg"
    ]  # fmt: skip
    assert reasons(items) == [] and captions(items)[3] == "v1.0000.txt"
    assert source.skipped() == {".md": 1, ".csv": 1}
    assert read_all(FolderSource(tmp_path, "png"))[0].key == "0.png"
    assert read_all(FolderSource(tmp_path, "seg.png;gif"))[0].key == "0.seg.png"
    assert_resumable(source)


@pytest.mark.parametrize(
    "contents, caption",
    [
        ('{"url": "x", "caption": "a cat"}', "a cat"), ('{"text": " a dog "}', "a dog"),
        ('{"text": "no", "caption": "yes"}', "yes"), ('{"url": "x"}', None), ("[1]", None),
        ("a cat", None), ('{"caption": 3}', None), ("[" * 100_000, None),
    ],
)  # fmt: skip
def test_a_caption_may_be_named_in_json(tmp_path, contents, caption):
    (tmp_path / "0.jpg").write_bytes(image_bytes(0))
    (tmp_path / "0.txt").write_text("other words")
    (tmp_path / "0.JSON").write_text(contents)
    folder = FolderSource(tmp_path, caption_key="json")
    (tmp_path / "a.tar").write_bytes(
        tar_bytes([(name, (tmp_path / name).read_bytes()) for name in ("0.jpg", "0.JSON")])
    )
    for source in (folder, TarSource(f"{tmp_path}/a.tar", caption_key="json")):
        items = read_all(source)
        assert captions(items) == ([caption] if caption else [])
        assert reasons(items) == ([] if caption else ["no caption"])


def test_a_folder_of_shards_below_says_what_to_name(tmp_path):
    (tmp_path / "00").mkdir()
    (tmp_path / "00" / "0.tar").touch()
    with pytest.raises(
        ValueError, match=r"folders below have 1 \.tar files: name them '.*/\*/\*\.tar"
    ):
        FolderSource(tmp_path)


def test_a_folder_below_that_cannot_be_listed_raises(tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    (tmp_path / "a.jpg").touch()
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("below"):
            raise PermissionError(f"denied: {path}")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="below"):
        FolderSource(tmp_path)


def test_pipes_and_links_that_lead_nowhere_do_not_stop_a_run(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.txt")
    source = FolderSource(tmp_path)
    (item,) = read_all(source)  # a missing file is found when it is decoded
    assert item.key == "a.jpg" and source.skipped() == {"not a regular file": 1}


def test_a_folder_without_images_or_that_is_none_raises(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(ValueError, match="root holds no image"):
        FolderSource(tmp_path)
    with pytest.raises(NotADirectoryError, match="root must be a folder"):
        FolderSource(tmp_path / "a.txt")
