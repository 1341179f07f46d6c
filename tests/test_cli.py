"""The `fastclip` command."""

import importlib.util
import re
from pathlib import Path

import pytest

import fastclip
from fastclip import cli, doctor
from fastclip.data.tokenizers.openai_vocabulary import Located


def test_no_command_prints_help_and_fails(capsys):
    assert cli.main([]) == 2
    out = capsys.readouterr().out
    assert all(command in out for command in cli.COMMANDS)


def test_version_is_the_package_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == fastclip.__version__


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([command, "--help"])
    assert exit.value.code == 0
    assert f"fastclip {command}" in capsys.readouterr().out


def test_unknown_command_is_an_error(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["trian"])
    assert exit.value.code == 2
    assert "trian" in capsys.readouterr().err


def test_doctor_names_every_backend_and_its_objection(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name, objection in fastclip.explain_backends().items():
        (line,) = [line for line in out.splitlines() if line.strip().startswith(f"{name} ")]
        assert "runs" in line if objection is None else objection in line


def test_doctor_says_where_the_vocabulary_is_found(monkeypatch, capsys):
    located = Located(Path("/a/merges.txt"), "copied there")
    monkeypatch.setattr(doctor, "locate_openai_vocabulary", lambda: located)
    assert cli.main(["doctor"]) == 0
    assert "/a/merges.txt, copied there" in capsys.readouterr().out


@pytest.mark.parametrize("is_offline", [False, True])
def test_doctor_says_how_the_vocabulary_would_be_found(
    is_offline, no_vocabulary, monkeypatch, capsys
):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    if not is_offline:
        monkeypatch.delenv("HF_HUB_OFFLINE")
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert ("HF_HUB_OFFLINE is set. " in out and "pip install open_clip_torch" in out) == is_offline
    address = "http://mirror/openai/clip-vit-base-patch32/resolve/main/merges.txt"
    assert (f"it is fetched when first needed, from {address}" in out) != is_offline


def test_doctor_says_what_installs_what_is_missing(monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tqdm" else find_spec(name)
    )
    assert cli.main(["doctor"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  tqdm ")]
    assert "missing" in line and line.endswith("pip install 'fastclip-kernels[train]'")


def test_extras_that_are_named_exist():
    # As text: Python 3.10 has no TOML.
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    extras = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    for path in sorted(Path(fastclip.__file__).parent.rglob("*.py")):
        for name in re.findall(r"fastclip-kernels\[(\w+)\]", path.read_text(encoding="utf-8")):
            assert f"\n{name} = [" in extras, f"{path}: {name}"
