"""What the results of gpu-check say of a set of kernels: whether it is right, and how fast."""

from typing import Any

from fastclip.benchmarks.gpu import verdict
from fastclip.benchmarks.gpu.kernels import ALL, Kernels

# Tools of compute-sanitizer: reads and writes out of bounds, and races for shared memory.
SANITIZERS = ("memcheck", "racecheck")
CEILING = "matmul bfloat16"

Content = dict[str, Any]


def checks(content: Content) -> list[verdict.Row]:
    """The rows that decide: those of correctness, and what compute-sanitizer found."""
    names = {f"{tool} {kernels}": str(kernels) for tool in SANITIZERS for kernels in ALL}
    found = [
        {"name": row["name"], "kernels": names[row["name"]], "fatal": True, "passed": False}
        for row in content["tools"]
        if row["name"] in names and "output" in row and not row["passed"]
    ]
    return [*content["correctness"], *found]


def speed_row(content: Content, what: str, kernels: Kernels, dtype: str, N: int, D: int) -> Content:
    """Of the stage "speed"; empty if there is none."""
    wanted = {"what": what, "backend": kernels.backend, "variant": kernels.variant,
              "dtype": dtype, "N": N, "D": D}  # fmt: skip
    return next((row for row in content.get("speed", []) if wanted.items() <= row.items()), {})


def tflops(N: int, D: int, seconds: float | None) -> float | None:
    return None if seconds is None else 2e-12 * N * N * D / seconds


def floor_ratio(content: Content, N: int, D: int, seconds: float | None) -> float | None:
    """Over four products at the rate of the largest one of this run."""
    rates = [row.get("rate") for row in content["ceilings"] if row["name"] == CEILING]
    if seconds is None or not rates or rates[0] is None:
        return None
    return seconds * rates[0] / (8.0 * N * N * D)
