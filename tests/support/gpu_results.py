"""Results of a gpu-check in which Hopper's kernels are right and so fast."""

from typing import Any

from fastclip.backends.gpu.verified import DIMS, DTYPES
from fastclip.benchmarks.gpu.kernels import ALL, Kernels
from fastclip.benchmarks.gpu.speed import DECIDES, FORWARD, STEP

HOPPER = ALL[2]


def check(kind: str, dtype: str, D: int | None, kernels: Kernels = HOPPER, **changes: Any) -> dict:
    """The row of a check that passed."""
    name = " ".join(filter(None, (kind, str(kernels), dtype, str(D or ""))))
    row = {"name": name, "kernels": str(kernels), "dtype": dtype, "D": D, "passed": True}
    return row | changes


def content(forward_ms: float = 6.0, step_ms: float = 12.0, **changes: Any) -> dict[str, Any]:
    timed = [
        {"name": "x", "what": what, "backend": "cuda", "variant": "hopper", "N": DECIDES, "D": D,
         "dtype": dtype, "seconds": 1e-3 * ms, "seconds_low": 1e-3 * ms, "seconds_high": 1e-3 * ms,
         "rounds": 5, "times_floor": 1.1, "extra_bytes": 200 << 20}
        for what, ms in ((FORWARD, forward_ms), (STEP, step_ms))
        for D in (768, 1024)
        for dtype in ("bfloat16", "float32")
    ]  # fmt: skip
    return {
        "date": "2026-11-25T10:00:00+00:00", "command": "make gpu-check",
        "host": {"gpu": "an H200", "architecture": "sm_90"},
        "ceilings": [{"name": "matmul bfloat16", "rate": 700e12, "unit": "FLOP/s"}],
        "correctness": [check("errors", dtype, D) for dtype in DTYPES for D in DIMS],
        "speed": timed, "training": [], "comparison": [], "tools": [],
    } | changes  # fmt: skip
