"""Completion in shells, of the commands' own parsers."""

import shutil
import subprocess

import pytest

import fastclip
from fastclip import cli
from fastclip.commands.completion import SHELLS, Flags, completion

TRAIN = Flags("train on pairs", {"--lr": (), "--loss": ("clip", "siglip"), "--fsdp": None},
              {"--lr": "The user's rate", "--loss": "Which", "--fsdp": "Shard"})  # fmt: skip
OWN = Flags("", {"--version": None, "-V": None}, {"--version": "Say it", "-V": "Say it"})


def completed(*words):
    """What bash makes of a line whose last word is being written."""
    script = completion("bash", {"train": TRAIN, "plot": Flags("", {}, {})}, OWN)
    line = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _fastclip; echo ${{COMPREPLY[@]}}"
    bash = subprocess.run(["bash", "-c", script + ask], capture_output=True, text=True)
    assert bash.returncode == 0 and not bash.stderr, bash.stderr
    return bash.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    "words, expected",
    [
        (["fastclip", ""], ["train", "plot", "--version", "-V"]),
        (["fastclip", "p"], ["plot"]),
        (["fastclip", "train", "--l"], ["--lr", "--loss"]),
        (["fastclip", "train", "--loss", "s"], ["siglip"]),
        (["fastclip", "train", "--lr", "-"], []),  # a value: the shell's own files
        (["fastclip", "train", "--fsdp", "--f"], ["--fsdp"]),
        (["fastclip", "train", "a-file"], []),
    ],
)
def test_bash_completes(words, expected):
    assert completed(*words) == expected


def test_other_shells_get_every_flag_and_choice():
    zsh, fish = (completion(shell, {"train": TRAIN}, OWN) for shell in ("zsh", "fish"))
    assert "bashcompinit" in zsh and "complete -o default -F _fastclip fastclip" in zsh
    assert "-l loss -x -a 'clip siglip' -d Which" in fish
    assert "-l lr -r -d 'The user'\"'\"'s rate'" in fish and "-l fsdp -d Shard" in fish


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.parametrize(
    "line, expected",
    [
        ("fastclip tra", ["train"]),
        ("fastclip train --l", ["--loss", "--lr"]),
        ("fastclip train --loss si", ["siglip"]),
        ("fastclip --v", ["--version"]),
    ],
)
def test_fish_completes(line, expected, tmp_path, monkeypatch):
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "script").write_text(completion("fish", {"train": TRAIN}, OWN))
    ask = f"source {tmp_path}/script; complete -C '{line}'"
    fish = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True)
    assert [words.split("\t")[0] for words in fish.stdout.splitlines()] == expected


def test_shell_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="one of bash, zsh, fish, got 'csh'"):
        completion("csh", {}, OWN)


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_script_has_all_commands_and_their_flags(shell, capsys):
    assert cli.main(["--completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in cli.COMMANDS)
    assert "keep-checkpoints" in script and "amp_bf16" in script


def test_version_has_a_short_flag(capsys):
    assert cli.main(["-V"]) == 0
    assert capsys.readouterr().out.strip() == fastclip.__version__


def test_a_package_that_is_hidden_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "advice_on_hidden_package", lambda: "this tree hides the package")
    assert cli.main(["plot", str(tmp_path)]) == 2
    assert "fastclip plot: this tree hides the package\n" in capsys.readouterr().err


def test_help_of_train_says_types(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    out = capsys.readouterr().out
    for words in ("--epochs INT", "--lr NUMBER", "--train-data DATA", "--image-mean NUMBER"):
        assert words in out
    assert " X " not in out and "  X\n" not in out
