import pytest

from fastclip.data.sources.folder import FolderSource
from tests.support.pair_files import assert_resumable, captions, picture_bytes, read_all, reasons


def test_pictures_of_all_folders_are_paired_with_their_captions_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for name, caption in (("b/x.webp", "three"), ("a.jpg", "one"), ("a2.PNG", "two")):
        (tmp_path / name).write_bytes(picture_bytes(1))
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
    (tmp_path / "d.txt").mkdir()
    (tmp_path / "e.txt").write_text("alone")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "f.jpg").write_bytes(b"")
    items = read_all(FolderSource(tmp_path))
    assert captions(items) == ["good"]
    assert reasons(items) == ["no caption", "empty caption", "unreadable caption", "no image"]


def test_a_folder_without_pictures_or_that_is_none_raises(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(ValueError, match="root holds no picture"):
        FolderSource(tmp_path)
    with pytest.raises(NotADirectoryError, match="root must be a folder"):
        FolderSource(tmp_path / "a.txt")
