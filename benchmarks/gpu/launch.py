"""Run `make gpu-first` or `make gpu-check`: `python3 benchmarks/gpu/launch.py first|check`.

This program copies the package from its checkout to build/gpu and runs the command there, so that
nothing is installed and no network is needed. The wheels in `wheels/` are unpacked next to it. If
the CUDA kernels are missing, they are built first if there is nvcc, which takes a minute.

It uses only the standard library and is run as a file, because the package is not importable yet.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NVCC = "/usr/local/cuda/bin/nvcc"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="launch.py", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("first", "check"))
    parser.add_argument("--output", type=Path, required=True, help="the folder for the results")
    args, options = parser.parse_known_args(arguments)
    build_kernels(ROOT)
    place = lay_out(ROOT)
    module = f"fastclip.benchmarks.gpu.{args.command}"
    command = [sys.executable, "-m", module, "--output", str(args.output.resolve()), *options]
    return subprocess.run(command, cwd=place).returncode


def build_kernels(root: Path) -> None:
    if (root / "fastclip" / "_cuda.so").exists():
        return
    if shutil.which("nvcc") is None and not Path(NVCC).exists():
        print("there are no CUDA kernels: fastclip/_cuda.so and nvcc are missing", flush=True)
        return
    environment = os.environ | {"FASTCLIP_BUILD": "auto"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    if subprocess.run(command, cwd=root, env=environment).returncode != 0:
        print("going on without the CUDA kernels", flush=True)


def lay_out(root: Path) -> Path:
    """Copy the package to build/gpu, laid out as in an installation."""
    place = root / "build" / "gpu"
    shutil.rmtree(place, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "results")
    shutil.copytree(root / "fastclip", place / "fastclip", ignore=ignored)
    shutil.copytree(root / "benchmarks", place / "fastclip" / "benchmarks", ignore=ignored)
    for wheel in sorted((root / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
    return place


if __name__ == "__main__":
    sys.exit(main())
