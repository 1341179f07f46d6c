"""Check and time a set of kernels, for one dtype and class of D after the other.

Kernels are right if they stay within the budgets of `checks.py` on random and on adversarial data,
at ragged sizes and a logit_scale of 100, on adversarial data also over several blocks of G; if they
give the same bits twice; if they are right with and without kept logits, and if rows leave out
columns; and if a CUDA graph can capture them. They are timed in turns with `chunked` and with
open_clip's formula under autocast, which are the user's alternatives.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch

from fastclip.backends.gpu.verified import DTYPES
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu.checks import eager_code
from fastclip.benchmarks.gpu.correctness import check_errors, check_properties, runs
from fastclip.benchmarks.gpu.kernels import CHUNKED, Kernels, find_kernels
from fastclip.benchmarks.gpu.speed import FORWARD, STEP, call_of
from fastclip.benchmarks.gpu.worker import Check, run_checks, sign_of_life
from fastclip.benchmarks.step import Step, leaves
from fastclip.benchmarks.timing import time_together

# N and D of the checks by class of D: the largest D of the class, and one that fills no tile.
SIZES = {
    512: ((1000, 72), (3001, 512)),
    768: ((300, 520), (1000, 768)),
    1024: ((300, 1000), (1000, 1024)),
}
HARD = "adversarial"
DATA = ("random", HARD)
SCALE = 100.0
CUT = 2001  # pairs of a batch whose G is cut into blocks
TIMED = 8192  # pairs
EAGER = "eager"


def run(device: str, kernels: str) -> None:
    run_checks(every_check(find_kernels(kernels), device), device)


def every_check(kernels: Kernels, device: str) -> Iterator[Check]:
    for name in DTYPES:
        dtype = getattr(torch, name)
        for dim in SIZES if runs(kernels, device, dtype) else ():
            yield from of_class(kernels, device, dtype, dim)


def of_class(kernels: Kernels, device: str, dtype: torch.dtype, dim: int) -> Iterator[Check]:
    def case(N: int, D: int, data: str, scale: float = SCALE) -> Case:
        return Case(N, D, dtype, scale, data, normalize=D != dim, device=device)

    ragged, largest = SIZES[dim]
    for size, data in product((ragged, largest), DATA):
        yield check_errors(kernels, "clip", case(*size, data))
    yield check_errors(kernels, "siglip", case(*ragged, "trained", 10.0))
    # The batches above are one block of G; a large one is several.
    for objective, scale in (("clip", SCALE), ("siglip", 10.0)):
        yield check_errors(kernels, objective, case(CUT, dim, HARD, scale), small_blocks=True)
    properties = "bits", "kept", "graph", "intervals"
    yield from check_properties(kernels, case(*largest, "random"), properties, every_dim=False)
    timed = Case(TIMED, dim, dtype, SCALE, normalize=True, device=device)
    facts = {"kernels": str(kernels), "dtype": str(dtype).removeprefix("torch."), "D": dim}
    yield Check(f"times {kernels} {timed}", functools.partial(times, kernels, timed), facts)


def times(kernels: Kernels, case: Case) -> dict[str, Any]:
    """Return {"N": pairs, "ms": {name: [forward, forward and backward]}}.

    A rival is missing if it cannot run, for example because it needs too much memory.
    """
    inputs = leaves("clip", case)
    calls = {
        (name, what): call
        for what in (FORWARD, STEP)
        for name, call in (
            (str(kernels), call_of(case, inputs, what, kernels)),
            (str(CHUNKED), call_of(case, inputs, what, CHUNKED)),
            (EAGER, _eager_call(case, inputs, what)),
        )
    }
    found = time_together(
        calls, case.N, case.D, rounds=3, budget_seconds=0.3, device=case.device,
        progress=sign_of_life,
    )  # fmt: skip
    ms = {}
    for name in (str(kernels), str(CHUNKED), EAGER):
        both = [found[name, what] for what in (FORWARD, STEP)]
        failure = next((x for x in both if isinstance(x, Exception)), None)
        if failure is None:
            ms[name] = [round(1e3 * timing.seconds, 4) for timing in both]
        elif name == str(kernels):
            raise failure
    return {"N": case.N, "ms": ms}


def _eager_call(case: Case, inputs: tuple, what: str) -> Callable[[], None]:
    case = dataclasses.replace(case, autocast=case.dtype != torch.float32)
    step = Step(eager_code("clip"), case, inputs)

    def call() -> None:
        if what == STEP:
            step()
            return
        with torch.no_grad(), torch.autocast(case.device, torch.bfloat16, enabled=case.autocast):
            step.loss(*inputs)

    return call
