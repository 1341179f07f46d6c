"""Builds the emulator of the CUDA kernels (`tests/emulator`), and loads it."""

import ctypes
import fcntl
import functools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.cpp_extension import include_paths, library_paths

from fastclip.backends.cuda import library

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "emulator"
FLAGS = [
    "-x", "c++", "-std=c++20", "-O2", "-g1", "-fPIC", "-march=native", "-fno-math-errno", "-Wall",
    "-Werror", "-Wno-unknown-pragmas", "-DFASTCLIP_LIBRARY=fastclip_emulated",
    "-DFASTCLIP_DISPATCH_KEY=CPU", "-DTORCH_TARGET_VERSION=0x020b000000000000",
    f"-iquote {ROOT / 'tests' / 'emulator'}",
]  # fmt: skip


@contextmanager
def emulated(seed: int = 0, early: bool = False) -> Iterator[None]:
    """Within the context, `backend="cuda"` takes features on the CPU.

    seed: of the order in which threads run. early: copies and products are made at the first moment
    instead of the last.
    """
    path = build()
    with library.emulator(path):
        ctypes.CDLL(str(path)).fastclip_emulator_options(seed, early)
        yield


@functools.cache
def build(folder: Path = FOLDER, defines: tuple[str, ...] = ()) -> Path:
    """Compile what has changed. `defines`: ("NAME=value", ...)"""
    csrc = ROOT / "csrc" / "cuda"
    kernels = [*csrc.glob("*.cu"), *csrc.glob("hopper/*.cu"), csrc / "registration.cpp"]
    return build_with(kernels, folder / "emulator.so", defines)


def build_with(sources: list[Path], target: Path, defines: tuple[str, ...] = ()) -> Path:
    """The emulator with these in place of the kernels."""
    sources = [*sources, *(ROOT / "tests" / "emulator").glob("*.cpp")]
    run_ninja(target.parent, _ninja_file(target, sources, defines))
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


def _ninja_file(target: Path, sources: list[Path], defines: tuple[str, ...]) -> str:
    flags = [*FLAGS, *(f"-isystem {x}" for x in include_paths()), *(f"-D{x}" for x in defines)]
    libraries = " ".join(f"-L{x}" for x in library_paths())
    compiler = os.environ.get("CXX", "c++")
    lines = [
        f"rule compile\n  command = {compiler} {' '.join(flags)} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d\n  deps = gcc",
        f"rule link\n  command = {compiler} -shared -o $out $in {libraries} -ltorch_cpu",
    ]
    objects = []
    for source in sorted(sources):
        objects.append("_".join(source.relative_to(ROOT).parts) + ".o")
        lines.append(f"build {objects[-1]}: compile {source}")
    return "\n".join([*lines, f"build {target}: link {' '.join(objects)}", ""])
