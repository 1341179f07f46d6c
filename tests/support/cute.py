"""CuTe's layouts, from the headers in the package nvidia-cutlass."""

import functools
import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.ninja import ROOT, run_ninja

SOURCE = ROOT / "tests" / "backends" / "cuda" / "cute_layouts.cpp"
FOLDER = ROOT / "build" / "cute"


@functools.cache
def layouts() -> dict[str, list]:
    """By name; what they are is said in SOURCE. Skips the test where they cannot be had."""
    package = importlib.util.find_spec("cutlass_library")
    if package is None:
        pytest.skip("nvidia-cutlass is not installed, which has CuTe's headers")
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("there is no nvcc, whose headers CuTe needs")
    headers = Path(package.origin).parent / "source" / "include"
    program = FOLDER / "layouts"
    # As C++ for the host: nvcc brings its headers.
    compile = f"{nvcc} -x c++ -std=c++17 -O0 -isystem {headers} -MD -MF $out.d -o $out $in"
    run_ninja(
        FOLDER,
        f"rule compile\n  command = {compile}\n  depfile = $out.d\n  deps = gcc\n"
        f"build {program}: compile {SOURCE}\n",
    )
    return json.loads(subprocess.run([program], check=True, capture_output=True).stdout)


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    found = shutil.which("nvcc", path=f"{home}/bin") if home else None
    return found or shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
