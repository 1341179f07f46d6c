"""Copies of images that were found: names of any length, in the order of results."""

from types import SimpleNamespace

import pytest

from fastclip.search.copies import copy_images


def test_long_names_are_cut_and_keep_their_suffix(tmp_path):
    names = ["a" * 251 + ".png", "\u00e4" * 120 + ".jpeg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    embeddings = SimpleNamespace(image_file=lambda row: tmp_path / names[row])
    assert copy_images(embeddings, [1, 0], tmp_path / "out") == {}
    first, second = sorted((tmp_path / "out").iterdir())
    assert first.name.startswith("001_\u00e4") and first.suffix == ".jpeg"
    assert first.read_bytes() == names[1].encode()
    assert second.name == "002_" + "a" * 196 + ".png"
    with pytest.raises(FileExistsError, match="exists already"):
        copy_images(embeddings, [1], tmp_path / "out")
