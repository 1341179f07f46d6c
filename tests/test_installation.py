"""A source tree that hides the installed package is noticed."""

import sys

import pytest
import torch

from fastclip import installation
from fastclip.backends import native
from fastclip.commands import doctor


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A place on the path where an installer has been, before any other."""
    metadata = tmp_path / "fastclip_kernels-0.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: fastclip-kernels\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_editable_installation_and_the_package_itself_hide_nothing(site):
    assert installation.hidden_package() is None
    (site / "fastclip").symlink_to(installation.PACKAGE)
    assert installation.hidden_package() is None
    assert installation.advice_on_hidden_package() is None


def test_installed_package_that_is_hidden_is_named_where_it_matters(site, monkeypatch, capsys):
    (site / "fastclip").mkdir()
    (site / "fastclip" / "__init__.py").write_text("")
    advice = installation.advice_on_hidden_package()
    assert f"hides the package installed in {site / 'fastclip'}: run from another" in advice
    doctor.run(None)
    assert f"WARNING: {advice}" in capsys.readouterr().out

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(native.importlib, "import_module", absent)
    monkeypatch.setattr(native, "PACKAGE", site / "fastclip")
    assert native.load.__wrapped__() == f"the native module is not built; {advice}"


def test_module_for_another_torch_is_named(tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(native.importlib, "import_module", absent)
    monkeypatch.setattr(native, "PACKAGE", tmp_path)
    other = "_C_torch2_11.cpython-39-x86_64-linux-gnu.so"
    (tmp_path / other).touch()
    why = native.load.__wrapped__()
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert f"is not built for torch {torch.__version__} and {python} (there are {other}); " in why
    assert "`pip install --no-build-isolation --no-deps --force-reinstall .`" in why
