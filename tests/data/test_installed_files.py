import sys
import types

import pytest

from fastclip.data.installed_files import installed_file


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package `open_clip` that fails if it is imported."""
    package = tmp_path / "open_clip"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('open_clip was imported')")
    (package / "a.txt").write_text("a")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    return package


def test_file_is_found_without_an_import(installed):
    assert installed_file("open_clip", "a.txt") == installed / "a.txt"
    assert (
        installed_file("open_clip", "b.txt") is None
        and installed_file("no_such_package", "a.txt") is None
    )


def test_a_finder_of_the_old_kind_is_left_out_as_python_does(installed, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [object(), *sys.meta_path])
    assert installed_file("open_clip", "a.txt") == installed / "a.txt"


@pytest.mark.parametrize("has_specification", [False, True])
def test_module_that_goes_by_the_packages_name_does_not_hide_it(
    has_specification, installed, monkeypatch
):
    stand_in = types.ModuleType("stand_in")
    if has_specification:
        stand_in.__spec__ = sys.modules["fastclip"].__spec__
    monkeypatch.setitem(sys.modules, "open_clip", stand_in)
    assert installed_file("open_clip", "a.txt") == installed / "a.txt"
    assert installed_file("open_clip", "b.txt") is None
