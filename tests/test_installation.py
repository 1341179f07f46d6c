"""A hidden package is noticed, and the command that installs a missing package is right."""

import re
import sys
from pathlib import Path

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


def test_what_installs_the_packages_of_an_extra_works_without_an_index_that_has_fastclip(site):
    metadata = site / "fastclip_kernels-0.1.0.dist-info" / "METADATA"
    with metadata.open("a") as file:
        file.write('Requires-Dist: numpy\nRequires-Dist: faiss-cpu>=1.10; extra == "search"\n')
        file.write("Requires-Dist: ray[data]>=2.51; extra == 'ray'\n")
        file.write(
            'Requires-Dist: tqdm>=4; extra == "train"\nRequires-Dist: wandb; extra == "train"\n'
        )
        file.write('Requires-Dist: triton; sys_platform == "linux" and extra == "triton"\n')
    command = installation.install_command
    assert command("search") == 'pip install "faiss-cpu>=1.10"'
    assert command("train") == 'pip install "tqdm>=4" "wandb"'
    assert command("train", "tqdm") == 'pip install "tqdm>=4"'
    assert command("ray", "ray") == 'pip install "ray[data]>=2.51"'
    assert command("triton") == 'pip install "triton"'
    # Metadata that is older than the source tree does not know the extra.
    assert command("new", "package") == 'pip install "package"'
    assert command("new") == 'pip install "fastclip-kernels[new]"'


def test_extras_and_packages_that_messages_name_are_declared():
    # As text: Python 3.10 has no TOML.
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    lines = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    extras = dict(re.findall(r"^([\w-]+) = \[(.*)\]", lines, re.MULTILINE))
    named = [(extra, package) for _, extra, package in doctor.OPTIONAL.values()]
    for path in installation.PACKAGE.rglob("*.py"):
        for call in re.findall(r"\binstall_command\(([^)]*)\)", path.read_text(encoding="utf-8")):
            extra, *only = re.findall(r"[\"']([\w-]+)[\"']", call) or [None]
            named += [(extra, package) for package in only or [""] if extra is not None]
    assert len(named) > len(doctor.OPTIONAL) + 10
    for extra, package in named:
        assert f'"{package}' in extras[extra], (extra, package)
