"""The CPU kernels under AddressSanitizer and UBSan: no call by name reads or writes elsewhere."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ninja import COMPILER, ROOT, build_library

SANITIZERS = "-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all"
FLAGS = ["-std=c++20", "-O1", "-g1", "-fopenmp", "-fno-omit-frame-pointer", "-Wall", SANITIZERS]
SECONDS = os.environ.get("FASTCLIP_FUZZ_SECONDS", "60")
SEED = "2026"


@functools.cache
def runtime() -> str | None:
    """The sanitizer's library, which has to be loaded before everything else; None without one.

    With that of C++ behind it: exceptions pass through both.
    """
    found = []
    for name in ("libasan.so", "libstdc++.so.6"):
        asked = [COMPILER, f"-print-file-name={name}"]
        found.append(subprocess.run(asked, capture_output=True, text=True).stdout.strip())
    return ":".join(found) if Path(found[0]).is_absolute() else None


pytestmark = pytest.mark.skipif(runtime() is None, reason=f"{COMPILER} comes without libasan.so")


def watched(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "LD_PRELOAD": runtime(),
        # Python leaks by design; an allocation that is too large raises, as without sanitizers.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "2",
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip


def test_the_sanitizer_watches():
    overflow = "import ctypes; m = ctypes.CDLL(None).malloc; m.restype = ctypes.c_void_p;"
    done = watched("-c", overflow + "ctypes.memset(m(8) + 8, 0, 1)")
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr


def test_no_call_by_name_reads_or_writes_elsewhere():
    sources = list((ROOT / "csrc" / "cpu").glob("*.cpp"))
    libraries = f"-ltorch_cpu -lc10 -fopenmp {SANITIZERS}"
    library = build_library(ROOT / "build/sanitised/native.so", sources, FLAGS, libraries)
    done = watched("-m", "tests.hosts.operator_fuzz", str(library), SEED, SECONDS)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"seed {SEED}, call {last}:\n{done.stderr[-6000:]}"
    assert last[0].startswith("done: ")
