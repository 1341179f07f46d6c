"""The `fastclip` command."""

import importlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import fastclip
from fastclip import cli
from fastclip.commands import doctor
from fastclip.data.tokenizers.openai_vocabulary import Located
from tests.support import fake_gpu


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


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_examples_in_the_help_of_a_command_are_commands(name, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    examples = [line for line in examples_in(capsys.readouterr().out) if line[0] == name]
    assert examples
    asked = []
    module = importlib.import_module(f"fastclip.commands.{name}")
    monkeypatch.setattr(module, "run", lambda args: asked.append(args.command))
    for example in examples:
        assert cli.main(example) == 0
    assert asked == [name] * len(examples)


def examples_in(text):
    """The arguments of every `fastclip` in an example, without what a shell does with them."""
    _, examples = re.split(r"(?im)^(?:for example|example:).*$", text, maxsplit=1)
    for line in re.findall(r"^ +.*\bfastclip .*", examples.replace("\\\n", " "), re.M):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&<>;")
        lexer.wordchars += "{}*?:,=/.-"
        words = []
        for word in [*lexer, "&&"]:
            if set(word) <= set("|&<>;"):
                if "fastclip" in words[:6]:
                    yield words[words.index("fastclip") + 1 :]
                words = []
            else:
                words.append(word)


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


def test_doctor_says_what_is_known_of_a_gpu_and_asks_nothing_of_it(monkeypatch, tmp_path, capsys):
    called = fake_gpu.install(monkeypatch, tmp_path)
    here = torch.device("cpu")
    doctor._print_gpu(here)
    before = capsys.readouterr().out
    assert "bfloat16 features, D = 512, on Fake H200" in before
    assert "the first call with 'auto' compares it with 'chunked'" in before
    assert "nothing has verified it on this GPU (Fake H200, bfloat16, D up to 512)" in before
    assert "`fastclip verify` (a few minutes at most)" in before and "verdicts.json" not in before
    assert called == [] and not any(tmp_path.iterdir())
    for dtype in (torch.bfloat16, torch.float32):
        fastclip.ops.dispatch.resolve_backend("auto", torch.ones(3, 4, dtype=dtype))
    doctor._print_gpu(here)
    after = capsys.readouterr().out
    assert re.search(r"triton +runs\n", after)
    assert "verdicts.json has 2 verdicts of your own; 2 hold for this GPU" in after
    fake_gpu.new_process()


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
    assert "missing" in line and line.endswith('pip install "tqdm>=4.66"')


@pytest.mark.parametrize(
    "arguments, hint",
    [
        (["--bogus"], ""),
        (["--log-dir", "x"], "; nearest: --logs-dir"),
        (["--global-batchsize"], "size"),
    ],
)
def test_nearest_flag_is_named_if_one_is_near(arguments, hint, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", *arguments])
    error = capsys.readouterr().err.strip()
    assert f"unrecognized arguments: {' '.join(arguments)}" in error and error.endswith(hint)
    assert ("nearest" in error) == bool(hint)


def test_training_without_data_names_the_flag_and_leaves_no_folder(tmp_path, capsys):
    assert cli.main(["train", "--logs", str(tmp_path / "logs"), "--device", "cpu"]) == 2
    assert "--train-data must be given: tar shards, a .csv" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_reader_that_goes_away_is_not_a_traceback():
    code = "from fastclip import cli; import sys; sys.exit(cli.main(['doctor']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()  # before anything is written
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=120), error) == (cli.CLOSED_PIPE, b"")


def command_that(run):
    return types.SimpleNamespace(add_arguments=lambda parser: None, run=run)


def test_pipe_that_breaks_elsewhere_is_an_error(monkeypatch):
    def run(args):
        raise BrokenPipeError("a worker is gone")

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: command_that(run))
    with open(os.devnull, "w") as output, pytest.raises(BrokenPipeError, match="a worker is gone"):
        monkeypatch.setattr(sys, "stdout", output)
        cli.main(["doctor"])


@pytest.mark.parametrize(
    ("said", "told"), [((), ""), (("2 files are written",), "; 2 files are written")]
)
def test_ctrl_c_is_one_line_and_the_status_of_a_shell(monkeypatch, capsys, said, told):
    def run(args):
        print("what was done")
        raise KeyboardInterrupt(*said)

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: command_that(run))
    assert cli.main(["embed"]) == 130
    assert capsys.readouterr() == ("what was done\n", f"fastclip embed: stopped{told}\n")


def test_ctrl_c_while_a_command_is_imported_is_one_line_too(monkeypatch, capsys):
    def interrupted(name):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["eval", "x"]) == 130
    assert capsys.readouterr().err == "fastclip eval: stopped\n"


def test_ctrl_c_after_the_reader_has_gone_is_no_traceback(monkeypatch, capfd):
    def run(args):
        print("what nobody reads")
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: command_that(run))
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert cli.main(["embed"]) == 130
    assert capfd.readouterr().err == "fastclip embed: stopped\n"


def test_python_m_fastclip_is_the_command():
    command = [sys.executable, "-m", "fastclip", "--version"]
    assert subprocess.check_output(command, text=True, timeout=120).strip() == fastclip.__version__


@pytest.mark.parametrize("is_hidden", [False, True])
def test_bench_of_a_source_tree_says_what_to_do(is_hidden, monkeypatch, capsys):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="fastclip.benchmarks")

    monkeypatch.setattr(cli.importlib, "import_module", absent)
    monkeypatch.setattr(cli, "advice_on_hidden_package", lambda: "run it" if is_hidden else None)
    assert cli.main(["bench", "loss"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastclip bench: fastclip.benchmarks is part of the installed package")
    assert error.strip().endswith("run it" if is_hidden else "is a source tree: pip install it")
