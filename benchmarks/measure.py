"""Measure time, memory and error of every provider on every case, into `Results`.

Cases of the same size are timed together, whatever their dtype or data, so that "bfloat16 against
float32" or "trained against random" are ratios of neighbouring minutes. If a provider objects or
fails, its row has the reason, and the others go on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from fastclip.benchmarks import accuracy
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.gpu import memory as gpu_memory
from fastclip.benchmarks.memory import (
    KilledForMemory,
    MemoryNotMeasured,
    extra_bytes,
    extra_bytes_here,
)
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.results import Results, Row
from fastclip.benchmarks.step import PRODUCTS, STEP, Step, call_of, inputs_of
from fastclip.benchmarks.timing import Stopped, Timing, time_together
from fastclip.benchmarks.traffic import step_bytes

# The float64 result takes work in proportion to N^2: seconds at 4,096.
EXACT_UP_TO = 4096
HERE = "measured in this process, where reused memory from earlier calls is not counted"
STOPPED = "stopped before it was measured"
Rows = dict[str, tuple[Row, Provider]]


@dataclass(frozen=True)
class Plan:
    """What to measure, and how long it may take; see `time_together` for the numbers.

    whats: what is timed: "step", "forward" or "backward". Memory, bytes and errors are measured
        for a step.
    """

    rounds: int = 6  # the least number for an interval of ratios within a run
    budget_seconds: float = 10.0
    limit_seconds: float = 30.0
    memory: bool = True
    accuracy: bool = False
    whats: tuple[str, ...] = (STEP,)
    traffic: bool = False


def measure(
    results: Results,
    cases: Sequence[Case],
    providers: Sequence[Provider],
    plan: Plan,
    save: Callable[[], None] = lambda: None,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Append a row per case, provider and pass to `results`; call `save` after every stage.

    After Ctrl-C, the results of finished rounds are kept; a row without any says that the run was
    stopped.
    """
    for (N, D), group in groupby(sorted(cases, key=_size), key=_size):
        rows = {
            f"{case} {provider.name}{'' if what == STEP else f', {what}'}": (
                Row(case, provider.name, what=what),
                provider,
            )
            for case in group
            for provider in providers
            for what in plan.whats
        }
        results.rows += [row for row, _ in rows.values()]
        try:
            _measure_group(rows, N, D, plan, save, progress)
        except KeyboardInterrupt:
            for row, _ in _running(rows.values()):
                if row.timing is None:
                    row.reason = STOPPED
            raise


def _measure_group(
    rows: Rows,
    N: int,
    D: int,
    plan: Plan,
    save: Callable[[], None],
    progress: Callable[[str], None],
) -> None:
    for row, provider in rows.values():
        row.reason = provider.objection(row.case)
    if plan.memory:
        for row, provider in _steps(rows.values()):
            progress(f"{row.case} {provider.name}: memory")
            _measure_memory(row, provider)
            save()
    _measure_time(rows, N, D, plan, progress)
    save()
    if plan.traffic:
        progress(f"N = {N}: bytes moved")
        _count_traffic(rows.values())
    if plan.accuracy and N <= EXACT_UP_TO:
        progress(f"N = {N}: accuracy")
        _measure_accuracy(rows.values())
    save()


def _size(case: Case) -> tuple[int, int]:
    return case.N, case.D


def _running(rows: Iterable[tuple[Row, Provider]]) -> list[tuple[Row, Provider]]:
    return [(row, provider) for row, provider in rows if row.reason is None]


def _steps(rows: Iterable[tuple[Row, Provider]]) -> list[tuple[Row, Provider]]:
    return [(row, provider) for row, provider in _running(rows) if row.what == STEP]


def _measure_memory(row: Row, provider: Provider) -> None:
    """Measure memory. A provider that fails is still timed, unless it was killed for its memory."""
    try:
        if row.case.device == "cuda":
            row.extra_bytes = _allocated(row.case, provider)
        elif provider.only_here:
            row.extra_bytes = extra_bytes_here(provider, row.case)
            row.memory_reason = HERE
        else:
            row.extra_bytes = extra_bytes(provider, row.case)
    except KilledForMemory as error:
        row.reason = str(error)
    except MemoryNotMeasured as error:
        row.memory_reason = str(error)


def _allocated(case: Case, provider: Provider) -> int | None:
    """Ask the GPU's allocator, which counts exactly; the first call loads and compiles."""
    try:
        step = Step(provider, case)
        step()
        return gpu_memory.extra_bytes(step, step.inputs)
    except Exception as error:
        raise MemoryNotMeasured(describe(error)) from error


def _measure_time(rows: Rows, N: int, D: int, plan: Plan, progress: Callable[[str], None]) -> None:
    running = {key: pair for key, pair in rows.items() if pair[0].reason is None}
    if any(provider.compiled for _, provider in running.values()):
        # A function may be specialised to few shapes before the compiler gives up on it.
        torch.compiler.reset()
    calls, inputs = {}, {}
    for key, (row, provider) in running.items():
        if row.case not in inputs:
            inputs[row.case] = inputs_of(provider, row.case)
        try:
            calls[key] = call_of(Step(provider, row.case, inputs[row.case]), row.what)
        except Exception as error:
            row.reason = describe(error)
    try:
        timings = time_together(
            calls,
            N,
            D,
            rounds=plan.rounds,
            budget_seconds=plan.budget_seconds,
            limit_seconds=plan.limit_seconds,
            slow_first_call=lambda name: running[name][1].compiled,
            products=lambda name: PRODUCTS[running[name][0].what],
            device=next((row.case.device for row, _ in running.values()), "cpu"),
            progress=progress,
        )
    except Stopped as stop:
        _take(stop.outcomes, running)
        raise
    _take(timings, running)


def _take(outcomes: dict[str, Timing | Exception], running: Rows) -> None:
    for key, timing in outcomes.items():
        row, _ = running[key]
        if isinstance(timing, Exception):
            row.reason = describe(timing)
        else:
            row.timing = timing


def _count_traffic(rows: Iterable[tuple[Row, Provider]]) -> None:
    """Count the bytes that each provider moves, except for compiled functions, which hide them."""
    for case, of_case in groupby(_steps(rows), key=lambda pair: pair[0].case):
        inputs = None
        for row, provider in of_case:
            if provider.compiled:
                continue
            if inputs is None:
                inputs = inputs_of(provider, case)
            try:
                row.moved_bytes = step_bytes(Step(provider, case, inputs))
            except Exception:
                row.moved_bytes = None  # one of its operators cannot be watched


def _measure_accuracy(rows: Iterable[tuple[Row, Provider]]) -> None:
    for case, of_case in groupby(_steps(rows), key=lambda pair: pair[0].case):
        entries = list(of_case)
        objective = entries[0][1].objective
        inputs = inputs_of(entries[0][1], case)
        truth = accuracy.exact(objective, inputs, case.normalize)
        for row, provider in entries:
            try:
                row.errors = accuracy.errors(Step(provider, case, inputs)(), truth)
            except Exception as error:
                row.reason = describe(error)


def describe(error: Exception) -> str:
    """Return a reason that fits in a line: the kind of error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
