"""Triton's kernels, on a GPU where there is one, otherwise in Triton's interpreter on the CPU.

The interpreter runs every kernel with the tile sizes of each architecture in turn, pointers and
descriptors and all three ways to sum columns included. It has float32 and float16; bfloat16 differs
from them only in the first load and the last store of a call, and needs a GPU.
"""

import importlib.util

import pytest
import torch

from fastclip.backends import triton as backend
from fastclip.backends.triton.tiles import TABLE, simulated_architecture

if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def interpreted_without_a_gpu(monkeypatch):
    """The kernels were imported for the interpreter in tests/conftest.py."""
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    assert backend.unsupported(device_type, torch.float16) is None


@pytest.fixture
def as_shipped():
    """For a test that wants the number of rows per program that a GPU gets."""


@pytest.fixture(autouse=True)
def few_programs(request, monkeypatch):
    """The interpreter's time goes into programs, not into rows: 64 rows in each instead of 8."""
    if torch.cuda.is_available() or "as_shipped" in request.fixturenames:
        return
    from fastclip.backends.triton import feature_gradients, operands, positives

    for module in (feature_gradients, operands, positives):
        monkeypatch.setattr(module, "ROWS_OF_PROGRAM", 64)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=[name for name in TABLE if name != "sm_90"] + ["sm_90"])
def every_architecture(request):
    """The tiles of every architecture; on a GPU only its own, which cannot be chosen."""
    if torch.cuda.is_available():
        if request.param != "sm_90":
            pytest.skip("on a GPU its own tiles run")
        yield
        return
    with simulated_architecture(request.param):
        yield
