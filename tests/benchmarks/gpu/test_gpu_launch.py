"""What `make gpu-first` and `make gpu-check` run: the package laid out, kernels built if needed."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILE = ROOT / "benchmarks" / "gpu" / "launch.py"


@pytest.fixture
def launch():
    """As it is run: from its file, without the package."""
    spec = importlib.util.spec_from_file_location("launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    """A checkout whose commands print where and how they were started."""
    for name in ("fastclip", "benchmarks/gpu", "benchmarks/results"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("fastclip", "benchmarks", "benchmarks/gpu"):
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "benchmarks/results/large.json").touch()
    (tmp_path / "fastclip/_cuda.so").touch()
    program = "import sys; print(__file__, *sys.argv[1:])\nsys.exit(7)\n"
    for name in ("first", "check"):
        (tmp_path / f"benchmarks/gpu/{name}.py").write_text(program)
    shutil.copy(FILE, tmp_path / "benchmarks/gpu")
    return tmp_path


@pytest.mark.parametrize("command", ["first", "check"])
def test_it_runs_the_package_that_it_lays_out(command, root, tmp_path):
    (root / "wheels").mkdir()
    with zipfile.ZipFile(root / "wheels/peer-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("peer/__init__.py", "")
    done = subprocess.run(
        [sys.executable, root / "benchmarks/gpu/launch.py", command, "--output", "out", "--small"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr  # the command's own
    file, *arguments = done.stdout.split()
    place = root / "build/gpu"
    assert Path(file) == place / f"fastclip/benchmarks/gpu/{command}.py"
    assert arguments == ["--output", str(tmp_path / "out"), "--small"]
    assert (place / "peer/__init__.py").exists()
    assert not (place / "fastclip/benchmarks/results").exists()


@pytest.mark.parametrize("command", ["first", "check"])
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_runs_it(command, tmp_path):
    # As if no make had started the tests: it would say which folder it is in.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    shown = subprocess.run(
        ["make", "--dry-run", f"gpu-{command}", "GPU_PYTHON=py", f"GPU_OUTPUT={tmp_path}",
         "GPU_OPTIONS=--small"],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=True,
    )  # fmt: skip
    expected = f"py benchmarks/gpu/launch.py {command} --output {tmp_path} --small"
    assert shown.stdout.strip() == expected


def test_kernels_are_built_only_where_there_are_none(launch, root, monkeypatch):
    built = []

    def run(command, cwd, env):
        built.append((command[1:3], cwd, env["FASTCLIP_BUILD"]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(launch.subprocess, "run", run)
    monkeypatch.setattr(launch.shutil, "which", lambda name: "/bin/nvcc")
    launch.build_kernels(root)
    assert built == []
    os.unlink(root / "fastclip/_cuda.so")
    launch.build_kernels(root)
    assert built == [(["setup.py", "--quiet"], root, "auto")]


def test_without_kernels_or_a_compiler_it_goes_on(launch, root, monkeypatch, capsys):
    os.unlink(root / "fastclip/_cuda.so")
    monkeypatch.setattr(launch.shutil, "which", lambda name: None)
    monkeypatch.setattr(launch, "NVCC", str(root / "no-nvcc"))
    launch.build_kernels(root)
    assert "no CUDA kernels" in capsys.readouterr().out
