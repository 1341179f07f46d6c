"""A run on a GPU is timed by its clock and counted by its allocator, as far as a CPU can show."""

import pytest
import torch

from fastclip.benchmarks import measure as module
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.measure import Plan, measure
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.results import Results
from fastclip.benchmarks.timing import Timing

TIMING = Timing(1.0, 1.0, 1.0, 1, 1e9, 2.0)


@pytest.fixture(autouse=True)
def memory_of_any_device(monkeypatch):
    monkeypatch.setattr("fastclip.benchmarks.provider.available_bytes", lambda device: None)


def provider(name="kernel"):
    return Provider(
        name, "clip", lambda: None, inputs=lambda case: (torch.ones(2, 2, requires_grad=True),)
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_clock_is_that_of_the_device(device, monkeypatch):
    asked = []

    def timed(calls, N, D, **settings):
        asked.append(settings["device"])
        return dict.fromkeys(calls, TIMING)

    monkeypatch.setattr(module, "time_together", timed)
    results = Results("clip", "", "", {})
    measure(results, [Case(2, 2, device=device)], [provider()], Plan(memory=False))
    assert asked == [device] and results.rows[0].timing == TIMING


def test_memory_of_a_gpu_is_what_its_allocator_says_after_a_first_call(monkeypatch):
    log = []

    class Step:
        inputs = ("inputs",)

        def __init__(self, *arguments):
            pass

        def __call__(self):
            log.append("call")

    def counted(call, inputs):
        log.append(("counted", inputs))
        return 123

    monkeypatch.setattr(module, "Step", Step)
    monkeypatch.setattr(module.gpu_memory, "extra_bytes", counted)
    monkeypatch.setattr(module, "_measure_time", lambda *arguments: None)
    results = Results("clip", "", "", {})
    measure(results, [Case(2, 2, device="cuda")], [provider()], Plan())
    assert results.rows[0].extra_bytes == 123 and log == ["call", ("counted", ("inputs",))]


def test_a_provider_whose_memory_fails_on_a_gpu_keeps_its_times(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(module, "Step", fails)
    monkeypatch.setattr(module, "_measure_time", lambda *arguments: None)
    results = Results("clip", "", "", {})
    measure(results, [Case(2, 2, device="cuda")], [provider()], Plan())
    (row,) = results.rows
    assert row.reason is None and row.memory_reason == "RuntimeError: out of luck"
