"""The check at a first use fails: what is warned of, raised and kept."""

import subprocess

import pytest
import torch

from fastclip.backends import chunked
from fastclip.backends.gpu import device as gpu_device
from tests.support import fake_gpu
from tests.support.fake_gpu import auto, nan, raising, refused, rows


def by_100_ulps(function, position):
    def mistake(name, results):
        if name != function:
            return results
        results = list(results)
        results[position] = results[position] * (1 + 100 * torch.finfo(torch.float32).eps)
        return tuple(results)

    return mistake


def out_of_shared_memory() -> Exception:
    try:
        from triton.runtime.errors import OutOfResources
    except ModuleNotFoundError:
        return RuntimeError("out of resource: shared memory")
    return OutOfResources(300_000, 232_448, "shared memory")


@pytest.mark.parametrize(
    "mistake, what",
    [
        (by_100_ulps("contrastive_lse", 0), "the positives of contrastive_lse: off by"),
        (by_100_ulps("contrastive_lse", 2), "the log-sum-exps of contrastive_lse: off by"),
        (by_100_ulps("contrastive_lse_backward", 0), "the gradient of rows of"),
        (by_100_ulps("contrastive_lse_backward", 1), "the gradient of columns of"),
        (by_100_ulps("contrastive_lse_backward", 2), "the gradient of logit_scale of"),
        (nan, "off by nan"),
        (
            raising(RuntimeError("PassManager::run\n failed")),
            "RuntimeError: PassManager::run failed",
        ),
        (raising(out_of_shared_memory()), "out of resource: shared memory"),
    ],
    ids=["positive", "total", "rows", "columns", "scale", "nan", "compiler", "resources"],
)
def test_a_mistake_ends_in_chunked_with_one_warning(machine, mistake, what):
    machine(mistake)
    message = refused()
    assert what in message and "`fastclip verify`" in message and "Fake H200" in message
    (row,) = rows()
    assert not row.passed and row.source == "self-check" and what in row.reason
    assert auto() == "chunked"  # no second warning: they are errors here
    fake_gpu.new_process()
    called = machine()
    assert what in refused() and not called  # another process: the file is believed


def test_too_little_memory_says_nothing_of_the_next_process(machine):
    machine(raising(torch.OutOfMemoryError("CUDA out of memory")))
    assert "CUDA out of memory" in refused()
    assert rows() == []
    assert auto() == "chunked"
    fake_gpu.new_process()
    machine()
    assert auto() == "triton"


def test_where_chunked_fails_nothing_is_said_of_the_kernels(machine, monkeypatch):
    called = machine()
    with monkeypatch.context() as patch:
        patch.setattr(chunked, "contrastive_lse", raising(RuntimeError("not deterministic")))
        assert "'chunked' raised RuntimeError: not deterministic" in refused()
    assert rows() == [] and not called


def test_an_interrupted_check_is_made_again(machine):
    machine(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        auto()
    assert rows() == []
    machine()
    assert auto() == "triton"


def answers_once(monkeypatch):
    """The device waits for its work before the check, and never again."""
    waits = iter([lambda device: None])
    lost = raising(RuntimeError("lost"))
    monkeypatch.setattr(gpu_device, "synchronize", lambda device: next(waits, lost)(device))


def test_a_fault_of_before_the_check_is_the_callers(machine, monkeypatch):
    called = machine()
    earlier = raising(RuntimeError("device-side assert triggered"))
    monkeypatch.setattr(gpu_device, "synchronize", earlier)
    with pytest.raises(RuntimeError, match=r"^device-side assert triggered$"):
        auto()
    assert not called and not rows()


def test_a_context_that_chunked_lost_says_nothing_of_the_kernels(machine, monkeypatch):
    machine()
    answers_once(monkeypatch)
    monkeypatch.setattr(chunked, "contrastive_lse", raising(RuntimeError("CUDA error")))
    with pytest.raises(RuntimeError, match="lost the GPU's context"):
        auto()
    assert not rows()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
        subprocess.CalledProcessError(1, ["gcc"]),
    ],
    ids=["memory", "cublas", "no compiler", "compiler"],
)
def test_what_the_machine_lacks_is_no_lasting_verdict(machine, error):
    machine(raising(error))
    assert "failed its check" in refused() and not rows()
    fake_gpu.new_process()
    machine()
    assert auto() == "triton"


def test_a_lost_context_is_an_error_and_the_next_process_does_not_try_again(machine, monkeypatch):
    machine(raising(RuntimeError("CUDA error: an illegal memory access was encountered")))
    answers_once(monkeypatch)
    with pytest.raises(RuntimeError) as caught:
        auto()
    message = str(caught.value)
    assert 'backend="chunked"' in message and "`fastclip verify`" in message
    assert "lost the GPU's context" in message and "illegal memory access" in message
    (row,) = rows()
    assert not row.passed and "illegal memory access" in row.reason
    fake_gpu.new_process()
    called = machine()
    assert "illegal memory access" in refused() and not called
