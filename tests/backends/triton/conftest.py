"""Triton's kernels, on a GPU where there is one, otherwise in Triton's interpreter on the CPU.

The interpreter runs every kernel with the tile sizes of each architecture in turn, pointers and
descriptors and all three ways to sum columns included. It has float32 and float16; bfloat16 differs
from them only in the first load and the last store of a call, and needs a GPU.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from fastclip.backends import triton as backend
from fastclip.backends.triton.tiles import TABLE, simulated_architecture

OBJECTION = backend.unsupported("cuda" if torch.cuda.is_available() else "cpu", torch.float16)


def pytest_collection_modifyitems(items):
    if OBJECTION is None:
        return
    for item in items:
        if "backends/triton" in item.path.as_posix() and item.path.name != "test_report.py":
            item.add_marker(pytest.mark.skip(reason=f"backend 'triton': {OBJECTION}"))


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
