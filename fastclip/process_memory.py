"""Measure how much memory this process holds, and how far a call makes it rise.

The numbers are resident memory, as users see it. It includes freed blocks that the C library keeps,
which for blocks below 32 MiB may double the number. A process keeps memory that it once had, so
compare two calls in two fresh processes.

On Linux the peak is VmHWM, reset through /proc/self/clear_refs, and not ru_maxrss, in which a
process inherits the peak of the process that started it. Elsewhere only ru_maxrss is available, and
it cannot be reset: memory before the call then counts at its own peak, and the rise is a lower
bound.

`python -m fastclip.process_memory FILE MODULE ARGS...` runs a module as `python -m MODULE ARGS...`
does, and writes its peak into FILE.
"""

import ctypes
import gc
import resource
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_resident_bytes() -> int:
    """Return the most memory this process has held (on Linux: since the last `rise_bytes`)."""
    if sys.platform == "linux":
        return _proc_status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rise_bytes(call: Callable[[], Any]) -> int:
    """Run `call`, and return how far the process's memory rose above its size before."""
    gc.collect()
    _return_freed_memory()
    if _reset_high_water():
        before = _proc_status("VmRSS")
        call()
        return _proc_status("VmHWM") - before
    before = peak_resident_bytes()
    call()
    return peak_resident_bytes() - before


def _return_freed_memory() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _proc_status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def _run_and_write_peak(path: str, module: str) -> None:
    sys.argv = [module, *sys.argv[3:]]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        Path(path).write_text(str(peak_resident_bytes()))


if __name__ == "__main__":
    _run_and_write_peak(*sys.argv[1:3])
