"""Time all sets of kernels in turns: the forward alone, and forward and backward.

The deciding cells come first: the ones for acceptance and for the table of `auto`
(`verified.csv`), at N = 32,768. The loss normalises features, and logit_scale has a gradient.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from fastclip.backends.gpu.verified import DIMS
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu.kernels import Kernels, kernels_on
from fastclip.benchmarks.gpu.memory import extra_bytes
from fastclip.benchmarks.gpu.worker import LOST, emit, is_lost, sign_of_life, synchronize
from fastclip.benchmarks.measure import describe
from fastclip.benchmarks.providers import find_provider
from fastclip.benchmarks.step import Step, leaves
from fastclip.benchmarks.timing import time_together

DECIDES = 32_768  # pairs
FORWARD, STEP = "forward", "forward + backward"


class Cell(NamedTuple):
    case: Case
    whats: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' and '.join(self.whats)} of {self.case}"

    def name(self, what: str, kernels: Kernels) -> str:
        return f"{what} {self.case} {kernels}"


def cells(device: str, small: bool) -> Iterator[Cell]:
    """Yield the cells, the most informative first."""
    both = FORWARD, STEP
    if small:
        yield Cell(Case(24, 24, torch.float16, normalize=True, device=device), both)
        return

    def case(N: int, D: int, dtype: torch.dtype = torch.bfloat16) -> Case:
        return Case(N, D, dtype, normalize=True, device=device)

    dims = sorted(DIMS, key=lambda D: D != 768)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for D in dims:
            yield Cell(case(DECIDES, D, dtype), both)
    for N, whats in ((8_192, both), (131_072, (FORWARD,)), (131_072, (STEP,))):
        for D in dims:
            yield Cell(case(N, D), whats)


def run(
    device: str, without: list[str], done: list[str], seconds: float, small: bool = False
) -> None:
    """Run the stage, without kernels that crashed a process, and without the cells in `done`."""
    deadline = time.monotonic() + seconds
    for cell in cells(device, small):
        if str(cell) in done:
            continue
        every = {
            cell.name(what, kernels): (what, kernels)
            for what in cell.whats
            for kernels in kernels_on(device, cell.case.dtype)
        }
        if not every:
            continue
        running = {name: of for name, of in every.items() if str(of[1]) not in without}
        if time.monotonic() > deadline:
            outcomes = {name: {"reason": "out of time"} for name in running}
        else:
            outcomes = _measure(cell, running)
        for name, (what, kernels) in every.items():
            outcome = outcomes.get(name, {"reason": "took a process down"})
            emit(result={"name": name, **_facts(cell.case, what, kernels), **outcome})
        emit(cell=str(cell))


def _measure(cell: Cell, every: dict[str, tuple[str, Kernels]]) -> dict[str, dict]:
    """Return a row's facts for each set of kernels, or the reason why it is not measured."""
    case, inputs = cell.case, leaves("clip", cell.case)
    calls, outcomes = {}, {}
    for name, (what, kernels) in every.items():
        emit(start=str(kernels))  # if the process dies, this set is the cause
        call = call_of(case, inputs, what, kernels)
        try:
            call()
            synchronize(case.device)
            outcomes[name] = {"extra_bytes": extra_bytes(call, inputs)} if what == STEP else {}
            calls[name] = call
        except Exception as error:
            outcomes[name] = {"reason": describe(error)}
            if is_lost(case.device):
                raise SystemExit(LOST) from error
    timings = time_together(
        calls, case.N, case.D, budget_seconds=0.5, device=case.device, progress=sign_of_life
    )
    for name, timing in timings.items():
        outcomes[name] |= (
            {"reason": describe(timing)}
            if isinstance(timing, Exception)
            else dataclasses.asdict(timing)
        )
    return outcomes


def call_of(case: Case, inputs: tuple, what: str, kernels: Kernels) -> Callable[[], None]:
    """Return a call of the forward, or forward and backward, with these kernels."""
    step = Step(find_provider("clip", f"fastclip/{kernels.backend}"), case, inputs)

    def call() -> None:
        with kernels.chosen(), torch.set_grad_enabled(what == STEP):
            step() if what == STEP else step.loss(*step.inputs)

    return call


def _facts(case: Case, what: str, kernels: Kernels) -> dict:
    return {
        "what": what,
        "backend": kernels.backend,
        "variant": kernels.variant,
        "N": case.N,
        "D": case.D,
        "dtype": str(case.dtype).removeprefix("torch."),
    }
