"""Directories that are complete or not there."""

import pytest

from fastclip.new_directory import new_directory


def test_directory_is_there_at_the_end_of_the_context(tmp_path):
    place = tmp_path / "above" / "made"
    with new_directory(place) as directory:
        (directory / "file").write_text("content")
        assert not place.exists()
    assert (place / "file").read_text() == "content"
    assert [path.name for path in place.parent.iterdir()] == ["made"]


def test_nothing_is_left_of_a_context_that_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "made") as directory:
        (directory / "file").write_text("content")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["directory", "link to nothing"])
def test_what_is_there_is_not_touched(tmp_path, kind):
    place = tmp_path / "made"
    if kind == "directory":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "nothing")
    with pytest.raises(FileExistsError, match="choose another path"), new_directory(place):
        raise AssertionError("nothing may be written")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
