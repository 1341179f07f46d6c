"""Measure time and peak memory of every provider, the most informative sizes first.

Providers of one size are timed in turns, with a matmul before each (`timing.py`), until the time is
used up. Memory is the allocator's peak beyond inputs and gradients. A provider that would be too
slow (its last time, scaled by N^2, is above SLOWEST_SECONDS) or too large is not measured, and its
row says so.
"""

import dataclasses
import time
from collections.abc import Iterator

import torch

from fastclip.benchmarks import accuracy
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu.memory import extra_bytes
from fastclip.benchmarks.gpu.worker import LOST, emit, is_lost, sign_of_life
from fastclip.benchmarks.measure import EXACT_UP_TO, describe
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.providers import providers
from fastclip.benchmarks.results import Row, row_to_json
from fastclip.benchmarks.step import Step, leaves
from fastclip.benchmarks.timing import time_together

SLOWEST_SECONDS = 4.0  # of a step, for a peer
LIMIT_SECONDS = 1.0  # a step slower than this is measured once
# Compiling each of its shapes takes half a minute; other libraries' eager losses are the same
# formula.
COMPILED = ("open_clip+compile",)
COMPILED_SIZES = ((4096, 768), (32768, 512), (32768, 768), (32768, 1024))
# From this size on, a call takes seconds, and only what was compiled at smaller sizes runs.
COMPILED_BEFORE = 500_000
OURS = ("fastclip/triton", "fastclip/cuda")  # never too slow to be measured
DIMS = (768, 512, 1024)
SIZES = (32_768, 4_096, 8_192, 16_384, 131_072, 65_536, 1_048_576)
SMALL_SIZES = (24, 40)  # for the test of all this without a GPU


def groups(device: str, small: bool) -> Iterator[tuple[str, Case]]:
    """Yield (objective, case), the most informative first."""
    kind = {"normalize": True, "device": device}
    if small:
        for N in SMALL_SIZES:
            yield "clip", Case(N, 24, torch.float32, **kind)
        yield "siglip", Case(SMALL_SIZES[0], 24, torch.float32, 10.0, **kind)
        return
    for N in SIZES:
        for D in DIMS:
            yield "clip", Case(N, D, torch.bfloat16, **kind)
        if N in (8_192, 32_768, 131_072):
            yield "siglip", Case(N, 768, torch.bfloat16, 10.0, **kind)
        if N in (8_192, 32_768):
            yield "clip", Case(N, 768, torch.float32, **kind)


def run(
    device: str, without: list[str], done: list[str], seconds: float, small: bool = False
) -> None:
    """Run the stage, without providers ("objective name") that crashed, and without `done`."""
    deadline = time.monotonic() + seconds
    last = {}  # (objective, provider, D, dtype) -> (N, seconds)
    for objective, case in groups(device, small):
        group = f"{objective} {case}"
        if group in done:
            continue
        if time.monotonic() > deadline:
            emit(result=_row_json(objective, Row(case, "*", "out of time")))
        else:
            _measure_group(objective, case, without, last)
        emit(cell=group)


def _measure_group(objective: str, case: Case, without: list[str], last: dict) -> None:
    rows, steps = {}, {}
    inputs = leaves(objective, case)
    for provider in providers(objective):
        of_provider = _under_autocast(case, provider)
        row = Row(of_provider, provider.name)
        row.reason = _objection(objective, of_provider, provider, without, last)
        if row.reason is None:
            emit(start=f"{objective} {provider.name}")
            try:
                step = Step(provider, of_provider, inputs)
                row.extra_bytes = _extra_bytes(step)
                if case.N <= EXACT_UP_TO:
                    row.errors = _errors(objective, case, inputs, step)
                steps[provider.name] = step
            except Exception as error:
                row.reason = describe(error)
                if is_lost(case.device):
                    raise SystemExit(LOST) from error
        rows[provider.name] = row
    timings = time_together(
        steps, case.N, case.D, rounds=3, budget_seconds=0.5, limit_seconds=LIMIT_SECONDS,
        device=case.device, progress=sign_of_life,
    )  # fmt: skip
    for name, row in rows.items():
        timing = timings.get(name)
        if isinstance(timing, Exception):
            row.reason = describe(timing)
        elif timing is not None:
            row.timing = timing
            last[objective, name, case.D, case.dtype] = case.N, timing.seconds
        emit(result=_row_json(objective, row))


def _under_autocast(case: Case, provider: Provider) -> Case:
    """Put eager code under autocast, as in a training step; fused losses choose their precision."""
    eager = provider.name.split("+")[0] in ("open_clip", "transformers")
    return dataclasses.replace(case, autocast=eager and case.dtype == torch.bfloat16)


def _objection(
    objective: str, case: Case, provider: Provider, without: list[str], last: dict
) -> str | None:
    if f"{objective} {provider.name}" in without:
        return "took the process down"
    if provider.compiled and provider.name not in COMPILED:
        return "the same formula as open_clip's, which is compiled and measured"
    if provider.compiled and (case.N, case.D) not in COMPILED_SIZES:
        return "each shape takes half a minute to compile; measured at other sizes"
    before = last.get((objective, provider.name, case.D, case.dtype))
    if before is not None and not provider.name.startswith(OURS):
        predicted = before[1] * (case.N / before[0]) ** 2
        if predicted > SLOWEST_SECONDS:
            return f"would take about {predicted:.0f} s"
    return provider.objection(case)


def _extra_bytes(step: Step) -> int | None:
    """Return the bytes of the second call; the first one compiles and warms up."""
    if step.case.N < COMPILED_BEFORE:
        step()
    return extra_bytes(step, step.inputs)


def _errors(objective: str, case: Case, inputs: tuple, step: Step) -> dict[str, float]:
    truth = accuracy.exact(objective, inputs, case.normalize)
    return accuracy.errors(step(), truth)


def _row_json(objective: str, row: Row) -> dict:
    name = f"{objective} {row.case} {row.provider}"
    return {"name": name, "objective": objective, **row_to_json(row)}
