"""What is shipped, and what FASTCLIP_BUILD does."""

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from fastclip.backends import native

ROOT = Path(__file__).parent.parent
SOURCES = [".ci", ".github", "csrc", "fastclip", "benchmarks", "examples", "tests"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what a release is made from, without what was built here."""
    root = tmp_path_factory.mktemp("checkout")
    built = shutil.ignore_patterns("*.so", "__pycache__")
    for name in SOURCES:
        shutil.copytree(ROOT / name, root / name, ignore=built)
    shutil.rmtree(root / "benchmarks" / "results", ignore_errors=True)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, root)
    return root


def setup_py(checkout: Path, choice: str, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *command],
        cwd=checkout,
        env=os.environ | {"FASTCLIP_BUILD": choice},
        capture_output=True,
        text=True,
        timeout=300,
    )


def backend_call(checkout: Path, call: str, out: Path) -> str:
    """Call a PEP 517 hook of setuptools and return the name of the file it made."""
    code = (
        "import setuptools.build_meta as b, sys; sys.argv = ['setup.py']; "
        f"print(b.{call}({str(out)!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        env=os.environ | {"FASTCLIP_BUILD": "none"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


def test_pure_python_wheel_ships_the_package_and_no_tests(checkout, tmp_path):
    wheel = zipfile.ZipFile(tmp_path / backend_call(checkout, "build_wheel", tmp_path))
    names = wheel.namelist()
    assert "fastclip/py.typed" in names and "fastclip/backends/cpu.py" in names
    assert "fastclip/backends/gpu/verified.csv" in names
    assert "fastclip/benchmarks/cases.py" in names and "fastclip/compat/clip/clip.py" in names
    assert "fastclip/evaluate/imagenet_classes.txt" in names
    assert "fastclip/evaluate/imagenet_wnids.txt" in names
    assert "fastclip/serve/page/index.html" in names and "fastclip/serve/page/main.js" in names
    # But for what `pytest --pyargs fastclip.benchmarks` times.
    timed = {"fastclip/benchmarks/test_losses.py", "fastclip/benchmarks/pytest.ini"}
    assert {name for name in names if "test" in name} == timed
    assert not any(name.startswith(("csrc", "examples")) for name in names)
    assert not any(name.endswith(".so") for name in names)
    (metadata,) = [name for name in names if name.endswith("METADATA")]
    text = wheel.read(metadata).decode()
    assert "Name: fastclip-kernels" in text and "Requires-Dist: torch>=2.11" in text
    packages = {Path(n).parent for n in names if n.endswith("/__init__.py")}
    source = {p.parent.relative_to(ROOT) for p in (ROOT / "fastclip").rglob("__init__.py")}
    benchmarks = {
        "fastclip" / p.parent.relative_to(ROOT) for p in (ROOT / "benchmarks").rglob("__init__.py")
    }
    assert source | benchmarks == packages


def test_sdist_ships_the_kernels_and_the_examples(checkout, tmp_path):
    with tarfile.open(tmp_path / backend_call(checkout, "build_sdist", tmp_path)) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*") if p.is_file()}
    sources |= {str(p.relative_to(ROOT)) for p in (ROOT / "examples").glob("*.py")}
    assert sources <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md"} <= names
    assert {"Makefile", "constraints.txt", ".ci/run", ".github/merge_wheels.py"} <= names
    assert not any(name.endswith(".so") for name in names)


@pytest.mark.parametrize(
    "choice, message",
    [
        ("fast", "FASTCLIP_BUILD must be one of"),
        ("cuda", "FASTCLIP_BUILD=cuda needs nvcc"),
    ],
)
def test_explicit_build_fails_rather_than_degrades(checkout, choice, message, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(checkout))  # which has no bin/nvcc
    result = setup_py(checkout, choice, "--version")
    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.compilers
def test_broken_compiler_fails_cpu_and_degrades_auto(checkout, monkeypatch):
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, "false")
    failed = setup_py(checkout, "cpu", "build_ext", "--inplace")
    assert failed.returncode != 0
    degraded = setup_py(checkout, "auto", "build_ext", "--inplace")
    assert degraded.returncode == 0, degraded.stderr
    assert f"{native.MODULE} could not be built, installing without it" in degraded.stderr
    assert not list((checkout / "fastclip").glob("*.so"))


@pytest.fixture
def setup(monkeypatch) -> dict:
    """The functions of setup.py, which builds nothing."""
    monkeypatch.setattr("setuptools.setup", lambda **arguments: None)
    monkeypatch.setenv("FASTCLIP_BUILD", "none")
    return runpy.run_path(str(ROOT / "setup.py"))


def test_native_module_is_built_under_the_name_by_which_it_is_loaded(setup):
    assert setup["native_module"](torch.__version__) == native.MODULE
    assert setup["native_module"]("2.11.1+cu130") == "fastclip._C_torch2_11"


@pytest.mark.parametrize(
    "requested, known, compiled",
    [
        ("", "80 90 100", "sm_80 sm_90a sm_100 compute_100"),
        ("", "80 90", "sm_80 sm_90a"),  # an older toolkit
        ("8.6;9.0", "80", "sm_86 sm_90a"),  # asked for: nvcc says what it does not know
        ("8.0 12.0+PTX", "80", "sm_80 sm_120 compute_120"),
    ],
)
def test_architectures_that_are_compiled_for(
    setup, monkeypatch, tmp_path, requested, known, compiled
):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", requested)
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nprintf 'compute_%s\\n' " + known + "\n")
    nvcc.chmod(0o755)
    found = setup["requested_architectures"](str(nvcc))
    assert [name for _, name in found] == compiled.split()
    assert found[0][0].startswith("-gencode arch=compute_")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "Hopper")
    with pytest.raises(ValueError, match=r"expected 8\.0, 9\.0a or 10\.0\+PTX, got 'Hopper'"):
        setup["requested_architectures"](str(nvcc))


def test_versions_agree():
    import importlib.metadata

    import fastclip

    assert importlib.metadata.version("fastclip-kernels") == fastclip.__version__
    assert f"## {fastclip.__version__}" in (ROOT / "CHANGELOG.md").read_text()
