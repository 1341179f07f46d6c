"""Every test runs with uninitialised memory filled with nan, in Python and in C++: an output that a
kernel forgot to write fails, instead of being right by luck."""

import gc
import getpass
import importlib.util
import os
import signal
import tempfile

import pytest
import torch

from tests.support import interpreter
from tests.support.backends import BACKENDS, FUSED_BACKENDS
from tests.support.fast import pytest_addoption, pytest_collection_modifyitems  # noqa: F401
from tests.support.fresh_process import FreshProcesses

# Triton decides when a kernel is imported whether to interpret it: here, before any test does. The
# variable is set again only where kernels run, in tests/backends.
if not torch.cuda.is_available() and importlib.util.find_spec("triton"):
    os.environ["TRITON_INTERPRET"] = "1"
    import fastclip.backends.triton.kernels  # noqa: F401

    interpreter.sum_products_in_float64()
    interpreter.patch_the_language_once_per_launch()
    del os.environ["TRITON_INTERPRET"]

torch.set_num_threads(2)

# What a shell starts in the background has Ctrl-C ignored, and Python leaves it so: tests send it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The compiler's cache does not tell instruction sets apart, of which ATEN_CPU_CAPABILITY chooses
# one: kernels that were compiled for another give garbage.
_CACHE = f"torchinductor_{getpass.getuser()}_{torch.backends.cpu.get_cpu_capability()}"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), _CACHE))
# A pool of compilers, of which each imports torch, takes longer than what it compiles.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


def pytest_collection_finish():
    """The collector of cycles leaves alone what is imported and collected by now.

    It would look through all of it in each of its rounds, for half a second where a test asks.
    """
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()


@pytest.fixture(scope="module")
def cheap_collections():
    """For tests that ask the collector often: it leaves alone what tests before them imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nan_in_uninitialised_memory():
    # `use_deterministic_algorithms` would import the compiler, for seconds, wherever one test runs.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(3).isnan().all()
    yield
    torch.set_deterministic_debug_mode("default")


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    return request.param


@pytest.fixture(params=FUSED_BACKENDS)
def fused_backend(request) -> str:
    """The backends that never hold an N x N tensor."""
    return request.param


@pytest.fixture(scope="session")
def fresh_process():
    """`fresh_process.run(code)` runs it where nothing but torch is imported."""
    processes = FreshProcesses()
    yield processes
    processes.close()


@pytest.fixture
def no_vocabulary(tmp_path, monkeypatch):
    """No copy of CLIP's vocabulary is on this machine, and none may be fetched."""
    from fastclip.data.tokenizers import openai_vocabulary

    monkeypatch.setattr(openai_vocabulary, "installed_file", lambda *names: None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(openai_vocabulary, "hub_file", _not_reached)
    openai_vocabulary._openai_vocabulary.cache_clear()
    yield
    openai_vocabulary._openai_vocabulary.cache_clear()


def _not_reached(*args):
    raise ConnectionError("no connection")
