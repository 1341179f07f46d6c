import pytest

from fastclip.data.sources.class_folder import ClassFolderSource


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_pictures_are_those_of_folders_and_captions_the_folders_names(tmp_path):
    fill(
        tmp_path, "n02/b.JPEG", "n01/deep/a.png", "n02/a.webp", "n02/notes.txt", "top.jpg",
        ".hidden/a.jpg", "empty/readme.txt",
    )  # fmt: skip
    source = ClassFolderSource(tmp_path)
    assert source.classes == ["n01", "n02"]
    found = [source.load(i) for i in range(len(source))]
    assert [(sample.key, sample.caption) for sample in found] == [
        ("n01/deep/a.png", "n01"), ("n02/a.webp", "n02"), ("n02/b.JPEG", "n02")
    ]  # fmt: skip
    assert found[0].image == str(tmp_path / "n01/deep/a.png")


def test_folders_that_cannot_be_classified_are_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        ClassFolderSource(tmp_path / "nowhere")
    fill(tmp_path, "a.jpg")
    with pytest.raises(ValueError, match="a folder of pictures"):
        ClassFolderSource(tmp_path)


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    fill(tmp_path, *(f"{i}/a.jpg" for i in (0, 2, 10, 100)))
    assert ClassFolderSource(tmp_path).classes == ["0", "2", "10", "100"]
    fill(tmp_path, "n01/a.jpg")
    assert ClassFolderSource(tmp_path).classes == ["0", "10", "100", "2", "n01"]
