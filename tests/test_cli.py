"""The `fastclip` command."""

import pytest

import fastclip
from fastclip import cli


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
