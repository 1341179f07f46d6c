"""Load the compiled kernels, `fastclip/_cuda.so`, once: operators of `torch.ops.fastclip_cuda`.

They are linked against torch's stable ABI and a static CUDA runtime, so that the library loads with
any torch from 2.11 on, and without a GPU. Tests also load an emulator of the same kernels
(`tests/emulator`), whose operators take tensors on the CPU.
"""

import ctypes
import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

LIBRARY = Path(__file__).parent.parent.parent / "_cuda.so"

_emulated: ContextVar[bool] = ContextVar("emulated", default=False)


@functools.cache
def load() -> str | None:
    """Load the kernels at the first call; return why they cannot run on any device, or None."""
    if not LIBRARY.exists():
        return (
            "the CUDA kernels are not built; install with a CUDA toolkit (nvcc) and "
            "`FASTCLIP_BUILD=cuda pip install --no-build-isolation`"
        )
    try:
        torch.ops.load_library(LIBRARY)
    except OSError as error:
        return f"the CUDA kernels do not load: {error}"
    return None


@functools.cache
def architectures() -> tuple[str, ...]:
    """Return the architectures of the kernels: ("sm_80", "sm_90a"); "compute_80" means its PTX.

    Raises:
        RuntimeError: there are no kernels; the message says why.
    """
    why = load()
    if why is not None:
        raise RuntimeError(why)
    names = ctypes.CDLL(str(LIBRARY)).fastclip_cuda_architectures
    names.restype = ctypes.c_char_p
    return tuple(names().decode().split())


def objection_to(capability: tuple[int, int]) -> str | None:
    """Return why the kernels cannot run on a GPU of this compute capability, or None."""
    compiled = architectures()
    if any(_runs_on(name, capability) for name in compiled):
        return None
    return "its kernels were compiled for {}, not for sm_{}{}".format(
        ", ".join(compiled), *capability
    )


def _runs_on(name: str, capability: tuple[int, int]) -> bool:
    """Return whether code for an architecture runs on a GPU of this compute capability.

    Machine code runs on later minor versions too, PTX on all later versions, and
    architecture-specific code (the "a" of sm_90a) on its own version only.
    """
    kind, digits, specific = re.fullmatch(r"(sm|compute)_(\d+)(a?)", name).groups()
    own = divmod(int(digits), 10)
    if specific:
        return capability == own
    return capability >= own and (kind == "compute" or capability[0] == own[0])


@contextmanager
def emulator(path: Path) -> Iterator[None]:
    """Accept features on the CPU too, within the context; for tests."""
    torch.ops.load_library(path)
    token = _emulated.set(True)
    try:
        yield
    finally:
        _emulated.reset(token)


def emulated() -> bool:
    return _emulated.get()


def operators(device_type: str):
    return torch.ops.fastclip_cuda if device_type == "cuda" else torch.ops.fastclip_emulated


def current_stream(on: Tensor) -> int:
    """Return the stream of the current device, which must be the device of `on`."""
    return torch.cuda.current_stream().cuda_stream if on.is_cuda else 0
