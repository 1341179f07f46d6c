"""The losses under pytest-benchmark.

    pytest benchmarks/                              up to N = 1,024, every provider that runs here
    pytest benchmarks/ -k "N8192 and fastclip"      the tests that -k names, whatever their size
    pytest --pyargs fastclip.benchmarks             the tests of an installed package
    pytest benchmarks/ --benchmark-autosave         then --benchmark-compare in the next run

A test is one forward and backward. `extra_info` explains the time: N, D, FLOP/s, x (the time over
the time of 8 N^2 D FLOPs at a matmul's rate), bytes that operators move, device, commit. The matmul
is timed before and after each test. `fastclip bench loss` times it in turns with the losses, so its
ratios are more reliable. OMP_NUM_THREADS sets the number of threads.
"""

from statistics import median
from typing import Any

import pytest
import torch

from fastclip.benchmarks import host
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.commit import own_commit
from fastclip.benchmarks.providers import OBJECTIVES, providers
from fastclip.benchmarks.step import Step
from fastclip.benchmarks.timing import Matmul, floor_flops, wall_seconds
from fastclip.benchmarks.traffic import step_bytes

SIZES = (64, 256, 1024, 4096, 8192)
SHORT = 1024  # larger cases take minutes and run only if chosen by name
CASES = [Case(N) for N in SIZES]
EAGER = [p for objective in OBJECTIVES for p in providers(objective) if not p.compiled]


@pytest.mark.parametrize("provider", EAGER, ids=lambda p: f"{p.objective}-{p.name}")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"N{case.N}-D{case.D}")
def test_forward_and_backward(benchmark, request, case, provider):
    if (why := objection_to_size(case, request.config, is_timed=benchmark.enabled)) is not None:
        pytest.skip(why)
    if (why := provider.objection(case)) is not None:
        pytest.skip(why)
    step = Step(provider, case)
    product = Matmul(case.N, case.D)
    before = _seconds(product) if benchmark.enabled else None
    benchmark.group = f"{provider.objective} loss, {case}"
    outcome = benchmark(step)
    assert all(torch.isfinite(gradient).all() for gradient in outcome.gradients)
    benchmark.extra_info |= {
        "provider": provider.name,
        "N": case.N,
        "D": case.D,
        "dtype": str(case.dtype).removeprefix("torch."),
        "bytes": step_bytes(step),
        "device": host.device_name(),
        "threads": torch.get_num_threads(),
        "commit": own_commit() or f"fastclip {host.installed_version('fastclip-kernels')}",
    }
    if benchmark.enabled:
        matmul_seconds = median([before, _seconds(product)])
        benchmark.extra_info |= _speed(benchmark.stats.stats.median, case, product, matmul_seconds)


def objection_to_size(case: Case, config: pytest.Config, is_timed: bool) -> str | None:
    """Return why a case of this size is left out, or None if it runs.

    -k and a test's own name choose a long case; -m does not, because it says nothing about sizes.
    """
    if not is_timed and case.N > SIZES[0]:
        return "without --benchmark-enable nothing is timed, and only the smallest case runs"
    is_chosen = config.option.keyword or any("::" in argument for argument in config.args)
    return f"long: choose it with -k N{case.N}" if case.N > SHORT and not is_chosen else None


def _speed(seconds: float, case: Case, product: Matmul, matmul_seconds: float) -> dict[str, Any]:
    floor = floor_flops(case.N, case.D)
    rate = product.flops / matmul_seconds
    return {
        "flops_per_second": floor / seconds,
        "x": seconds * rate / floor,
        "matmul_flops_per_second": rate,
    }


def _seconds(product: Matmul) -> float:
    product()
    return median(wall_seconds(product) for _ in range(3))
