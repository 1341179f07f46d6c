"""Builds the emulator of the CUDA kernels (`tests/emulator`), and loads it."""

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastclip.backends.cuda import library
from tests.support.ninja import ROOT, build_library

FOLDER = ROOT / "build" / "emulator"
FLAGS = [
    "-x", "c++", "-std=c++20", "-O2", "-g1", "-march=native", "-fno-math-errno", "-Wall",
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
    operators = [csrc / "registration.cpp", csrc / "clip_loss.cpp"]
    kernels = [*csrc.glob("*.cu"), *csrc.glob("hopper/*.cu"), *operators]
    return build_with(kernels, folder / "emulator.so", defines)


def build_with(
    sources: list[Path], target: Path, defines: tuple[str, ...] = (), libraries: str = "-ltorch_cpu"
) -> Path:
    """The emulator with these in place of the kernels."""
    sources = [*sources, *(ROOT / "tests" / "emulator").glob("*.cpp")]
    return build_library(target, sources, [*FLAGS, *(f"-D{x}" for x in defines)], libraries)
