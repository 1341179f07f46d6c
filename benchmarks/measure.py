"""A run: every provider on every case, for time, memory and error, into `Results`.

Cases of the same size are timed together, whatever their dtype or data, so that "bfloat16 against
float32" or "trained against random" are ratios of neighbouring minutes. A provider that objects
or fails is a row with its reason, and the others go on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from fastclip.benchmarks import accuracy
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.memory import MemoryNotMeasured, extra_bytes
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.results import Results, Row
from fastclip.benchmarks.step import Step, inputs_of
from fastclip.benchmarks.timing import time_together

# The exact answer is N^2 work in float64 on one machine's cores: seconds at 4,096.
EXACT_UP_TO = 4096


@dataclass(frozen=True)
class Plan:
    """What to measure, and how long it may take; see `time_together` for the numbers."""

    rounds: int = 5
    budget_seconds: float = 10.0
    limit_seconds: float = 30.0
    memory: bool = True
    accuracy: bool = False


def measure(
    results: Results,
    cases: Sequence[Case],
    providers: Sequence[Provider],
    plan: Plan,
    save: Callable[[], None] = lambda: None,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Append a row per case and provider to `results`; `save` is called after every stage."""
    for (N, D), group in groupby(sorted(cases, key=_size), key=_size):
        rows = {
            f"{case} {provider.name}": (Row(case, provider.name), provider)
            for case in group
            for provider in providers
        }
        results.rows += [row for row, _ in rows.values()]
        for row, provider in rows.values():
            row.reason = provider.objection(row.case)
        if plan.memory:
            for row, provider in _running(rows.values()):
                progress(f"{row.case} {provider.name}: memory")
                _measure_memory(row, provider)
                save()
        _measure_time(rows, N, D, plan, progress)
        save()
        if plan.accuracy and N <= EXACT_UP_TO:
            progress(f"N = {N}: accuracy")
            _measure_accuracy(rows.values())
        save()


def _size(case: Case) -> tuple[int, int]:
    return case.N, case.D


def _running(rows: Iterable[tuple[Row, Provider]]) -> list[tuple[Row, Provider]]:
    return [(row, provider) for row, provider in rows if row.reason is None]


def _measure_memory(row: Row, provider: Provider) -> None:
    try:
        row.extra_bytes = extra_bytes(provider, row.case)
    except MemoryNotMeasured as error:
        row.reason = str(error)


def _measure_time(
    rows: dict[str, tuple[Row, Provider]],
    N: int,
    D: int,
    plan: Plan,
    progress: Callable[[str], None],
) -> None:
    running = {key: pair for key, pair in rows.items() if pair[0].reason is None}
    if any(provider.compiled for _, provider in running.values()):
        # A function may be specialised to few shapes before the compiler gives up on it.
        torch.compiler.reset()
    steps, inputs = {}, {}
    for key, (row, provider) in running.items():
        if row.case not in inputs:
            inputs[row.case] = inputs_of(provider, row.case)
        try:
            steps[key] = Step(provider, row.case, inputs[row.case])
        except Exception as error:
            row.reason = describe(error)
    timings = time_together(
        steps,
        N,
        D,
        rounds=plan.rounds,
        budget_seconds=plan.budget_seconds,
        limit_seconds=plan.limit_seconds,
        slow_first_call=lambda name: running[name][1].compiled,
        progress=progress,
    )
    for key, timing in timings.items():
        row, _ = running[key]
        if isinstance(timing, Exception):
            row.reason = describe(timing)
        else:
            row.timing = timing


def _measure_accuracy(rows: Iterable[tuple[Row, Provider]]) -> None:
    for case, of_case in groupby(_running(rows), key=lambda pair: pair[0].case):
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
    """A reason that fits in a line: the kind of error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
