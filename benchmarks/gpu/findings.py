"""Read from the results of gpu-check whether a set of kernels is right, and how fast it is."""

from typing import Any

from fastclip.benchmarks.gpu import verdict
from fastclip.benchmarks.gpu.kernels import ALL, Kernels

# Tools of compute-sanitizer: reads and writes out of bounds, and races for shared memory.
SANITIZERS = ("memcheck", "racecheck")
CEILING = "matmul bfloat16"

Content = dict[str, Any]


def checks(content: Content) -> list[verdict.Row]:
    """Return the rows that decide: checks of correctness, and compute-sanitizer's findings."""
    names = {f"{tool} {kernels}": str(kernels) for tool in SANITIZERS for kernels in ALL}
    found = [
        {"name": row["name"], "kernels": names[row["name"]], "fatal": True, "passed": False}
        for row in content["tools"]
        if row["name"] in names and "output" in row and not row["passed"]
    ]
    return [*content["correctness"], *found]


def speed_row(content: Content, what: str, kernels: Kernels, dtype: str, N: int, D: int) -> Content:
    """Return a row of the stage "speed", or an empty one if there is none."""
    wanted = {"what": what, "backend": kernels.backend, "variant": kernels.variant,
              "dtype": dtype, "N": N, "D": D}  # fmt: skip
    return next((row for row in content.get("speed", []) if wanted.items() <= row.items()), {})


def tflops(N: int, D: int, seconds: float | None) -> float | None:
    return None if seconds is None else 2e-12 * N * N * D / seconds


def floor_ratio(content: Content, N: int, D: int, seconds: float | None) -> float | None:
    """Return the time over four products at the rate of this run's largest product."""
    rates = [row.get("rate") for row in content["ceilings"] if row["name"] == CEILING]
    if seconds is None or not rates or rates[0] is None:
        return None
    return seconds * rates[0] / (8.0 * N * N * D)
