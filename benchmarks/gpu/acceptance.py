"""The criteria by which a GPU backend is accepted, and whether the results meet them.

checks        every check of correctness ran and passed, compute-sanitizer found nothing
forward       TFLOP/s of 2 N^2 D, at least FORWARD_TFLOPS
step          forward and backward over the floor, 4 x 2 N^2 D at the measured matmul ceiling of
              this run, at most FLOOR_RATIO
memory        beyond inputs and gradients, at most MEMORY_MIB

All criteria but the first refer to N = 32,768 and D = 768, in bfloat16.
"""

from collections.abc import Iterator
from typing import NamedTuple

from fastclip.benchmarks.gpu.findings import Content, checks, floor_ratio, speed_row, tflops
from fastclip.benchmarks.gpu.kernels import ALL, Kernels
from fastclip.benchmarks.gpu.speed import DECIDES, FORWARD, STEP
from fastclip.benchmarks.gpu.verdict import in_all

FORWARD_TFLOPS = 600.0
FLOOR_RATIO = 1.25
MEMORY_MIB = 256.0


class Line(NamedTuple):
    name: str
    holds: bool | None  # None: not measured
    measured: str

    @property
    def word(self) -> str:
        return "open" if self.holds is None else "holds" if self.holds else "DOES NOT HOLD"


def lines(content: Content) -> list[Line]:
    return [line for kernels in ALL for line in _lines_of(content, kernels)]


def _lines_of(content: Content, kernels: Kernels) -> Iterator[Line]:
    passed, said = in_all(checks(content), kernels)
    yield Line(f"{kernels}: every check passes", passed, said)
    at = kernels, "bfloat16", DECIDES, 768
    forward, step = (speed_row(content, what, *at) for what in (FORWARD, STEP))

    name = f"{kernels}: forward, at least {FORWARD_TFLOPS:g} TFLOP/s"
    rate = tflops(DECIDES, 768, forward.get("seconds"))
    yield Line(name, rate and rate >= FORWARD_TFLOPS, _said(forward, rate, ".0f"))

    name = f"{kernels}: forward + backward, at most {FLOOR_RATIO:g} of the floor"
    ratio = floor_ratio(content, DECIDES, 768, step.get("seconds"))
    yield Line(name, ratio and ratio <= FLOOR_RATIO, _said(step, ratio, ".2f"))

    name = f"{kernels}: at most {MEMORY_MIB:g} MiB beyond inputs and gradients"
    mib = None if step.get("extra_bytes") is None else step["extra_bytes"] / 2**20
    yield Line(
        name,
        None if mib is None else mib <= MEMORY_MIB,
        "not measured" if mib is None else f"{mib:.0f}",
    )


def _said(row: Content, value: float | None, digits: str) -> str:
    if value is None:
        return row.get("reason", "not measured")
    return f"{value:{digits}}, {1e3 * row['seconds']:.2f} ms"
