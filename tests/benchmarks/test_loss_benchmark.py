"""The named cases under pytest-benchmark: once each as a test, timed with --benchmark-enable."""

import pytest
import torch

from fastclip.benchmarks.cases import BATCHES, Case
from fastclip.benchmarks.providers import providers
from fastclip.benchmarks.step import Step

CASES = tuple(Case(N, data=data) for N in BATCHES if N <= 128 for data in ("random", "trained"))
EAGER = [provider for provider in providers("clip") if not provider.compiled]


@pytest.fixture(autouse=True)
def nan_in_uninitialised_memory():
    """Not here: filling memory would be timed with the loss."""


@pytest.mark.parametrize("provider", EAGER, ids=lambda p: p.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_clip_loss_forward_and_backward(benchmark, case, provider):
    if (why := provider.objection(case)) is not None:
        pytest.skip(why)
    benchmark.group = str(case)
    outcome = benchmark(Step(provider, case))
    assert all(torch.isfinite(gradient).all() for gradient in outcome.gradients)
