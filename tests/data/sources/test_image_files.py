"""The images that a person names, and what of a folder is none."""

import os
from collections import Counter

import pytest

from fastclip.data.sources.image_files import image_files
from fastclip.data.sources.samples import BadSample


def found(*paths):
    others = Counter()
    images = list(image_files(map(str, paths), others))
    return images, others


def test_folders_are_their_images_and_those_below_and_files_are_taken_as_they_are(tmp_path):
    for name in ("b/2.JPG", "b/c/1.png", "a.webp", "b/notes.txt", "b/data", ".hidden/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    images, others = found("absent.xyz", tmp_path, tmp_path / "b/notes.txt")
    expected = [str(tmp_path / name) for name in ("a.webp", "b/2.JPG", "b/c/1.png")]
    assert images == ["absent.xyz", *expected, str(tmp_path / "b/notes.txt")]
    assert others == {".txt": 1, "no suffix": 1}


def test_folders_without_images_are_said_in_their_place(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    images, others = found(tmp_path / "empty", "a.png", tmp_path / "texts")
    assert images == [
        BadSample(str(tmp_path / "empty"), "folder without images"), "a.png",
        BadSample(str(tmp_path / "texts"), "folder without images"),
    ]  # fmt: skip
    assert others == {".txt": 1}


def test_what_is_no_file_is_counted_and_folders_of_loops_end(tmp_path):
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert found(tmp_path) == ([str(tmp_path / "a.png")], {"not a regular file": 2})


def test_a_folder_that_cannot_be_listed_is_bad(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    ((bad,), _) = found(tmp_path)
    assert bad.reason == "unreadable folder" and "Permission denied" in bad.detail


@pytest.mark.parametrize("count", [0, 3])
def test_paths_are_looked_at_one_by_one(count):
    taken = []

    def paths():
        for number in range(5):
            taken.append(number)
            yield f"{number}.png"

    stream = image_files(paths(), Counter())
    assert [next(stream) for _ in range(count)] == [f"{number}.png" for number in range(count)]
    assert len(taken) == count
