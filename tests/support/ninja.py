"""Compiles C++ against torch, what has changed of it."""

import fcntl
import os
import subprocess
from pathlib import Path

from torch.utils.cpp_extension import include_paths, library_paths

ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX", "c++")


def build_library(target: Path, sources: list[Path], flags: list[str], libraries: str) -> Path:
    """A shared library of sources in this repository, or a program if its name has no suffix.

    Its objects lie beside it, and are those of whatever else is built there with the same flags.
    """
    shared = "-shared" if target.suffix else ""
    flags = [*flags, "-fPIC", *(f"-isystem {x}" for x in include_paths())]
    folders = " ".join(f"-L{x}" for x in library_paths())
    lines = [
        f"rule compile\n  command = {COMPILER} {' '.join(flags)} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d\n  deps = gcc",
        f"rule link\n  command = {COMPILER} {shared} -o $out $in {folders} {libraries}",
    ]
    objects = []
    for source in sorted(sources):
        objects.append("_".join(source.relative_to(ROOT).parts) + ".o")
        lines.append(f"build {objects[-1]}: compile {source}")
    run_ninja(target.parent, "\n".join([*lines, f"build {target}: link {' '.join(objects)}", ""]))
    return target


def run_ninja(folder: Path, ninja_file: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        # Several processes may run the tests.
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "build.ninja").write_text(ninja_file)
        done = subprocess.run(["ninja", "-C", folder], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
