"""What the results of gpu-check say of a set of kernels."""

from typing import Any

from fastclip.benchmarks.gpu.kernels import Kernels

CEILING = "matmul bfloat16"

Content = dict[str, Any]


def checks(content: Content, kernels: Kernels) -> tuple[bool | None, str]:
    """Whether all passed, None if none ran; the second word of a check's name is whose it is."""
    rows = [row for row in content["correctness"] if row["name"].split()[1:2] == [str(kernels)]]
    if not rows:
        return None, "did not run"
    failed = [row["name"] for row in rows if not row["passed"]]
    failed += [
        row["name"]
        for row in content["tools"]
        if row["name"] == f"memcheck {kernels}" and "output" in row and not row["passed"]
    ]
    if failed:
        return False, ", ".join(failed)
    if any(_cut_short(row) for row in content["tools"]):
        return False, f"{len(rows)} passed, but the stage was cut short"
    return True, f"{len(rows)} of {len(rows)}"


def _cut_short(row: dict[str, Any]) -> bool:
    """Where a process was taken down, what did it failed, and the others ran in the next."""
    return row["name"] == "stage correctness" and row["reason"] != "taken down"


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
