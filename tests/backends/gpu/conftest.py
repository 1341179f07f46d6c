"""Every set of kernels for a GPU: on a GPU where there is one, otherwise emulated on the CPU.

Triton's interpreter runs its kernels with the tile sizes of each architecture in turn, pointers and
descriptors and all three ways to sum columns included. It has float32 and float16; bfloat16 differs
from them only in the first load and the last store of a call. The CUDA kernels, those for any GPU
and Hopper's, run in the emulator of `tests/emulator`.

A test that asks for `gpu` runs with each; marked `every_architecture`, with all of Triton's tiles.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import torch

from fastclip.backends import cuda, triton
from fastclip.backends.cuda.variants import VARIANTS, chosen_variant
from fastclip.backends.triton.tiles import TABLE, simulated_architecture
from tests.support.emulator import emulated
from tests.support.interpreter import few_programs

ON_A_GPU = torch.cuda.is_available()


@dataclass(frozen=True)
class Gpu:
    backend: str
    architecture: str  # of Triton's tiles, or the variant of the CUDA kernels
    device: torch.device


def pytest_generate_tests(metafunc):
    if "gpu" not in metafunc.fixturenames:
        return
    kinds = []
    if importlib.util.find_spec("triton"):
        every = metafunc.definition.get_closest_marker("every_architecture")
        # On a GPU its own tiles run, which cannot be chosen.
        kinds += [("triton", name) for name in (TABLE if every and not ON_A_GPU else ("sm_90",))]
    kinds += [("cuda", name) for name in VARIANTS]
    metafunc.parametrize("gpu", kinds, indirect=True, ids="-".join)


@pytest.fixture
def as_shipped():
    """For a test that wants the number of rows per program that a GPU gets."""


@pytest.fixture
def gpu(request, monkeypatch) -> Iterator[Gpu]:
    backend, architecture = request.param
    device = torch.device("cuda" if ON_A_GPU else "cpu")
    with ExitStack() as stack:
        if backend == "cuda":
            if not ON_A_GPU:
                stack.enter_context(emulated())
            objection = cuda.unsupported(device.type, torch.float16)
            stack.enter_context(chosen_variant(architecture))
        else:
            if not ON_A_GPU:
                # The kernels were imported for the interpreter in tests/conftest.py.
                monkeypatch.setenv("TRITON_INTERPRET", "1")
                if "as_shipped" not in request.fixturenames:
                    few_programs(monkeypatch)
            objection = triton.unsupported(device.type, torch.float16)
            stack.enter_context(simulated_architecture(architecture))
        if ON_A_GPU and objection is not None:
            pytest.skip(objection)
        assert objection is None
        yield Gpu(backend, architecture, device)
