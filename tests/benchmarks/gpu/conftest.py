"""Every set of kernels, on this machine: CUDA's in the emulator, Triton's in its interpreter."""

import pytest
import torch

from fastclip.backends.triton.tiles import simulated_architecture
from fastclip.benchmarks.gpu import ceilings, check, comparison, first, speed, watched
from fastclip.benchmarks.gpu.kernels import ALL, Kernels, sets_on
from fastclip.benchmarks.gpu.verify import measure
from fastclip.benchmarks.gpu.watched import Patience
from fastclip.benchmarks.timing import Timing
from tests.support.emulator import emulated
from tests.support.forked import ForkedWorker
from tests.support.interpreter import few_programs


@pytest.fixture
def emulated_kernels():
    """CUDA's kernels take features on the CPU."""
    if torch.cuda.is_available():
        pytest.skip("a GPU runs them itself")
    with emulated():
        yield


@pytest.fixture
def all_kernels(emulated_kernels, monkeypatch):
    """All of them take features on the CPU."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    few_programs(monkeypatch)
    with simulated_architecture("sm_90"):
        assert set(sets_on("cpu")) == set(ALL)
        yield


@pytest.fixture
def forked_workers(monkeypatch):
    """Workers have what this process has, planted kernels for example, and more time: this machine
    may be busy."""
    monkeypatch.setattr(watched, "start_worker", ForkedWorker)
    patience = Patience(line=500.0)
    monkeypatch.setattr(Kernels, "patience", patience)
    monkeypatch.setattr(check, "COMPILING", patience)


@pytest.fixture
def impatient_with_hopper(forked_workers, monkeypatch):
    """Hopper's kernels hang after two seconds."""
    patience = property(lambda kernels: Patience(2.0 if kernels.variant == "hopper" else 500.0))
    monkeypatch.setattr(Kernels, "patience", patience)


@pytest.fixture
def once_timed(monkeypatch):
    """What is timed runs once, and is said to take a millisecond more than what stands before it.

    No clock of a busy machine decides: forward passes stand first, and take less than steps.
    """

    def times(calls, N, D, **settings) -> dict[str, Timing | Exception]:
        found = {}
        for place, (name, call) in enumerate(calls.items(), start=1):
            try:
                call()
                seconds = 1e-3 * place
                found[name] = Timing(seconds, seconds, seconds, 1, 1e9, 2.0)
            except Exception as error:
                found[name] = error
        return found

    for module in (ceilings, comparison, first, speed, measure):
        monkeypatch.setattr(module, "time_together", times)
