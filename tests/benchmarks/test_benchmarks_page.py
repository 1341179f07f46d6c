"""docs/benchmarks.md: its Python runs, its commands are commands, pytest times what it names."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fastclip.benchmarks import command, session
from fastclip.benchmarks.compare import command as compare
from fastclip.benchmarks.figures import plots
from fastclip.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = [
    line.partition("#")[0].strip()
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith(("fastclip", "pytest"))
]


def test_a_kernel_in_a_file_and_one_of_a_session_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (kernel,) = blocks("python file=kernel.py")
    Path("kernel.py").write_text(kernel)
    asked = []

    def small(*args, **settings):
        asked.append(settings)
        fast = {"n": 16, "d": 8, "rounds": 1, "budget_seconds": 0, "memory": False}
        return session.bench(*args, **settings | fast | {"against": "kernel.py:loss"})

    monkeypatch.setattr("fastclip.benchmarks.bench", small, raising=False)
    drawn = []
    monkeypatch.setattr(plots, "save_plots", lambda *arguments: drawn.append(arguments) or [])
    (program,) = blocks("python")
    exec(compile(program, "benchmarks.md", "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out
    assert "| eager |" in printed and "| kernel.py:loss |" in printed
    assert asked == [{"against": ["fastclip/cpu", "open_clip"], "n": ["256", "1k"], "d": 128}]
    assert {"eager.json", "eager.md", "eager.csv"} <= {path.name for path in Path().iterdir()}
    ((_, stem, formats),) = drawn
    assert (stem.name, formats) == ("eager", ["png", "pdf"])


@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith("fastclip")])
def test_commands_are_commands(line, monkeypatch, tmp_path):
    """Each is parsed, and reaches what does the work."""
    reached = []
    for module, name in ((command, "_measure"), (command, "_report"), (compare, "run")):
        monkeypatch.setattr(module, name, lambda args: reached.append(args) or 0)
    assert main(shlex.split(line)[1:]) == 0
    assert len(reached) == 1


@pytest.mark.slow
def test_pytest_times_what_is_named_and_says_what_it_means(tmp_path):
    saved = tmp_path / "times.json"
    # A worker of pytest-xdist times nothing, and a process that it starts takes itself for one.
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PYTEST_")}
    chosen = ["-k", "N64 and clip-fastclip/chunked", "-p", "no:cacheprovider"]
    arguments = [*chosen, f"--benchmark-json={saved}", "--benchmark-max-time=0.01"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "benchmarks/", *arguments],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (one,) = json.loads(saved.read_text())["benchmarks"]
    facts = one["extra_info"]
    assert (facts["provider"], facts["N"], facts["D"]) == ("fastclip/chunked", 64, 512)
    seconds = one["stats"]["median"]
    floor = 8 * 64**2 * 512
    assert facts["flops_per_second"] == pytest.approx(floor / seconds)
    assert facts["x"] == pytest.approx(seconds * facts["matmul_flops_per_second"] / floor)
    assert facts["bytes"] >= 4 * 4 * 64 * 512 and facts["threads"] >= 1
    assert re.match("[0-9a-f]{40}|fastclip ", facts["commit"]) and facts["device"]
