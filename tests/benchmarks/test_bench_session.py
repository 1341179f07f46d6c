"""`fastclip.benchmarks.bench`: functions of a session beside others."""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastclip.benchmarks import bench, ceilings
from fastclip.benchmarks.cases import Case
from fastclip.benchmarks.compare.intervals import LEAST_WITHIN
from fastclip.benchmarks.measure import Plan
from fastclip.benchmarks.provider import Provider
from fastclip.benchmarks.results import load_results
from fastclip.benchmarks.step import Step, call_of

SMALL = {"n": 32, "d": 16, "rounds": 2, "budget_seconds": 0, "memory": False}


def eager(image_features, text_features, logit_scale):
    logits = logit_scale * image_features @ text_features.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def test_a_function_is_timed_beside_others_and_compared_with_float64(tmp_path):
    results = bench(eager, against="fastclip/reference", **SMALL | {"n": ["32", 48]})
    assert results.complete and results.sources == {"eager": "a function of the session"}
    assert [(row.provider, row.case.N) for row in results.rows] == [
        ("eager", 32), ("fastclip/reference", 32), ("eager", 48), ("fastclip/reference", 48)
    ]  # fmt: skip
    for row in results.rows:
        assert row.timing.rounds == 2 and row.timing.seconds > 0
        assert max(error for name, error in row.errors.items()) < 1e-5
    printed = str(results)
    assert printed == results._repr_markdown_() and "| eager |" in printed
    first = results.table()[0]
    assert first["provider"] == "eager" and float(first["seconds"]) > 0 and first["reason"] == ""
    written = results.write(tmp_path / "run.1", formats=())
    assert [path.name for path in written] == ["run.1.json", "run.1.md", "run.1.csv"]
    assert load_results(written[0]).rows == results.rows


def test_forward_and_backward_apart(capsys):
    def fused(*inputs):
        return eager(*inputs)

    passes = ("forward", "backward", "step")
    results = bench({"one": eager, "two": fused}, against=(), passes=passes, **SMALL)
    assert [row.label for row in results.rows] == [
        f"{name}{what}" for name in ("one", "two") for what in (", forward", ", backward", "")
    ]
    assert all(row.timing is not None for row in results.rows)
    assert [row.errors is not None for row in results.rows] == [False, False, True] * 2
    assert "A forward alone is compared with 2 N^2 D FLOPs" in str(results)


@pytest.mark.parametrize(("what", "runs"), [("step", "fb"), ("forward", "f"), ("backward", "b")])
def test_what_is_timed_of_a_step_is_what_it_says(what, runs):
    log = []

    class Logged(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            log.append("f")
            ctx.save_for_backward(*inputs)
            return inputs[2].clone()

        @staticmethod
        def backward(ctx, grad):
            log.append("b")
            return tuple(torch.zeros_like(x) for x in ctx.saved_tensors)

    step = Step(Provider("logged", "clip", lambda: Logged.apply), Case(4, 3))
    call = call_of(step, what)
    for _ in range(2):
        getattr(call, "prepare", lambda: None)()
        log.clear()
        call()
        assert "".join(log) == runs


def test_bytes_are_those_of_operators_and_at_least_those_of_inputs():
    def matrices(image_features, text_features, logit_scale):
        logits = logit_scale * image_features @ text_features.T
        return logits.logsumexp(1).mean()

    results = bench(
        {"matrices": matrices}, against="fastclip/chunked", **SMALL | {"n": 512, "accuracy": False}
    )
    moved = {row.provider: row.moved_bytes for row in results.rows}
    matrix, features = 4 * 512 * 512, 4 * 512 * 16
    # Read or written: logits, their scale's backward, exponentials of both passes, their gradient.
    assert 6 * matrix < moved["matrices"] < 20 * matrix
    assert 4 * features <= moved["fastclip/chunked"] < matrix


def test_memory_of_a_function_of_the_session_is_measured_here_and_that_is_said():
    held = []

    def loss(image_features, text_features, logit_scale):
        held[:] = [torch.ones(40 * 2**18)]
        return (logit_scale * image_features * text_features).sum()

    (row,) = bench(loss, against=(), **SMALL | {"memory": True, "accuracy": False}).rows
    assert 30 * 2**20 < row.extra_bytes < 60 * 2**20
    assert row.memory_reason.startswith("measured in this process")


def test_a_function_that_fails_is_a_row_with_its_reason():
    def constant(image_features, text_features, logit_scale):
        return image_features.sum() + text_features.sum()

    results = bench(constant, against="fastclip/reference", **SMALL)
    reasons = [row.reason for row in results.rows]
    assert "appears to not have been used in the graph" in reasons[0] and reasons[1] is None


def test_siglip_has_a_bias():
    def siglip(image_features, text_features, logit_scale, logit_bias):
        logits = logit_scale * image_features @ text_features.T + logit_bias
        signs = 2 * torch.eye(len(logits)) - 1
        return -F.logsigmoid(signs * logits).sum() / len(logits)

    (row,) = bench(siglip, against=(), objective="siglip", logit_scale=10.0, **SMALL).rows
    assert row.errors["logit_bias"] < 1e-5


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("fn", 3, "fn must be a function, or functions by name; 'int' is 3"),
        ("n", [], "n must be a number of pairs, or several numbers, got []"),
        ("n", 3.5, "n must be a positive number, such as 4096 or 4k, got 3.5"),
        ("n", -3, "n must be a positive number, such as 4096 or 4k, got -3"),
        ("dtype", "int8", "dtype must be one of float32"),
        ("passes", ("sideways",), "passes must be one of step, forward, backward"),
        ("passes", (), "passes must be one of step"),
        ("data", "mine", "data must be one of random"),
        ("objective", "dcl", "objective must be one of clip, siglip, got 'dcl'"),
        ("device", "tpu", "device must be one of cpu, cuda, got 'tpu'"),
        ("logit_scale", float("nan"), "logit_scale must be a finite number above 0"),
        ("against", "nobody", "no against matches nobody; there are fastclip/"),
        ("against", "nowhere.py:loss", "nowhere.py cannot be imported"),
        ("rounds", 0, "rounds must be a positive number"),
    ],
)
def test_wrong_arguments_are_refused_by_name(argument, value, words):
    arguments = {"fn": eager, "against": (), **SMALL, argument: value}
    with pytest.raises((TypeError, ValueError)) as refused:
        bench(**arguments)
    assert words in str(refused.value)


def test_sizes_may_be_integers_of_numpy():
    results = bench(eager, against=(), **SMALL | {"n": np.int64(16), "accuracy": False})
    assert [row.case.N for row in results.rows] == [16]


def test_rounds_by_default_suffice_for_ratios_within_a_run():
    default = inspect.signature(bench).parameters["rounds"].default
    assert default == Plan().rounds == LEAST_WITHIN


def test_the_states_of_files_of_rivals_are_known(tmp_path):
    path = tmp_path / "rival.py"
    path.write_text("def loss(a, b, scale): return scale * (a * b).sum()")
    results = bench(eager, against=f"{path}:loss", **SMALL | {"accuracy": False})
    assert results.sources["eager"] == "a function of the session"
    assert results.sources[f"{path}:loss"].startswith("in no repository, sha256 ")


@pytest.mark.parametrize("stops_at", [1, 4])
def test_what_is_timed_before_an_interrupt_is_returned(stops_at, monkeypatch, capsys):
    monkeypatch.setattr("fastclip.benchmarks.timing.MAX_CALLS", 1)
    calls = []

    def stops(*inputs):
        calls.append(1)
        if len(calls) == stops_at:  # two warm up, and each round has one
            raise KeyboardInterrupt
        return eager(*inputs)

    plan = {"against": (), **SMALL, "accuracy": False}
    monkeypatch.setattr("fastclip.benchmarks.record.measured_ceilings", lambda device: {})
    if stops_at == 1:
        with pytest.raises(KeyboardInterrupt):
            bench(stops, **plan)
        return
    results = bench(stops, **plan)
    assert not results.complete and results.rows[0].timing.rounds == 1
    assert "This run was stopped before its end." in str(results)
    assert capsys.readouterr().err.endswith("stopped; the finished rounds are returned\n")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_without_memory_for_ceilings_a_run_goes_on(error, monkeypatch):
    def fails(num_bytes, device):
        raise error

    monkeypatch.setattr(ceilings, "copy", fails)
    results = bench(eager, against=(), **SMALL | {"accuracy": False})
    assert results.complete and results.ceilings == {} and results.rows[0].timing is not None
    assert results.ceilings_reason == f"{type(error).__name__}: {error}"
    assert f"There is no roofline without ceilings: {results.ceilings_reason}." in str(results)


def test_ceilings_that_do_not_fit_are_not_begun_and_other_errors_are_raised(monkeypatch):
    def fails(num_bytes, device):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(ceilings, "copy", fails)
    with pytest.raises(RuntimeError, match="no such kernel"):
        bench(eager, against=(), **SMALL)
    monkeypatch.setattr(ceilings.host, "available_bytes", lambda device: 2**10)
    with pytest.raises(MemoryError, match=r"they need .* GiB, but 0.00 GiB are available"):
        ceilings.measured_ceilings("cpu")


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="against and fn have a name in common: open_clip"):
        bench({"open_clip": eager}, against="open_clip", **SMALL)
