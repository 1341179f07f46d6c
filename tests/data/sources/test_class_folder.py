import pytest

from fastclip.data.images import load_image
from fastclip.data.sources.class_folder import ClassFolderSource
from tests.support.pair_files import image_bytes


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_images_are_those_of_folders_and_captions_the_folders_names(tmp_path):
    fill(
        tmp_path, "n02/b.JPEG", "n01/deep/a.png", "n02/a.webp", "n02/notes.txt", "top.jpg",
        ".hidden/a.jpg", "__MACOSX/a.jpg", "n01/Thumbs.db", "__pycache__/load.pyc", "n01/__len__",
    )  # fmt: skip
    source = ClassFolderSource(tmp_path)
    assert source.classes == ["n01", "n02"]
    found = [source.load(i) for i in range(len(source))]
    assert [(sample.key, sample.caption) for sample in found] == [
        ("n01/deep/a.png", "n01"), ("n02/a.webp", "n02"), ("n02/b.JPEG", "n02")
    ]  # fmt: skip
    assert found[0].image == str(tmp_path / "n01/deep/a.png")
    assert source.skipped() == {".txt": 1, "image outside the folders of classes": 1}


def test_names_that_are_digits_and_no_numbers_are_names(tmp_path):
    fill(tmp_path, "\u00b2/a.jpg", "10/a.jpg", "9/a.jpg")
    assert ClassFolderSource(tmp_path).classes == ["10", "9", "\u00b2"]


@pytest.mark.parametrize("suffix", ["tif", "TIFF", "bmp", "gif", "jp2", "ppm", "avif", "jfif"])
def test_every_format_that_is_read_makes_a_class(tmp_path, suffix):
    form = {"tif": "TIFF", "jp2": "JPEG2000", "jfif": "JPEG"}.get(suffix, suffix.upper())
    fill(tmp_path, "a/1.jpg", f"sea/1.{suffix}")
    (tmp_path / f"sea/1.{suffix}").write_bytes(image_bytes(7, format=form))
    source = ClassFolderSource(tmp_path)
    assert source.classes == ["a", "sea"]
    assert load_image(source.load(1).image).size == (8, 8)


@pytest.mark.parametrize("name", ["__background__", "__", "_noise_", "desktop.ini", "a.jpg"])
def test_a_folder_of_any_other_name_is_a_class(tmp_path, name):
    fill(tmp_path, f"{name}/1.jpg", "b/__deep__/2.jpg")
    source = ClassFolderSource(tmp_path)
    assert set(source.classes) == {name, "b"} and len(source) == 2


@pytest.mark.parametrize("name, said", [
    ("sea/1.heic", r"'sea' \(1 .heic\)"), ("sea/", r"'sea' \(empty\)"),
    ("sea/1", r"'sea' \(1 no suffix\)"), ("sea/.1.jpg", r"'sea' \(empty\)"),
])  # fmt: skip
def test_a_class_without_images_is_named(tmp_path, name, said):
    fill(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "sea").mkdir()
    if not name.endswith("/"):
        fill(tmp_path, name)
    with pytest.raises(ValueError, match=f"none in {said}"):
        ClassFolderSource(tmp_path)


def test_classes_may_be_links_to_folders_and_a_link_to_a_folder_above_ends(tmp_path):
    fill(tmp_path / "all", "x/1.jpg", "y/2.jpg")
    (tmp_path / "some").mkdir()
    for name in ("x", "y"):
        (tmp_path / "some" / name).symlink_to(tmp_path / "all" / name)
    (tmp_path / "all" / "y" / "round").symlink_to(tmp_path / "all" / "y")
    source = ClassFolderSource(tmp_path / "some")
    assert source.classes == ["x", "y"] and len(source) == 2
    assert source.skipped() == {"not a regular file": 1}


def test_folders_that_cannot_be_classified_are_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        ClassFolderSource(tmp_path / "nowhere")
    fill(tmp_path, "a.jpg")
    with pytest.raises(ValueError, match="a folder of images"):
        ClassFolderSource(tmp_path)


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    fill(tmp_path, *(f"{i}/a.jpg" for i in (0, 2, 10, 100)))
    assert ClassFolderSource(tmp_path).classes == ["0", "2", "10", "100"]
    fill(tmp_path, "n01/a.jpg")
    assert ClassFolderSource(tmp_path).classes == ["0", "10", "100", "2", "n01"]
