"""The compiled kernels: `fastclip/_cuda.so`, loaded once, operators of `torch.ops.fastclip_cuda`.

They are linked against torch's stable ABI and a static CUDA runtime, so that the library loads
beside any torch from 2.11 on, and without a GPU. Tests load an emulator of the same kernels beside
it (`tests/emulator`), whose operators take tensors on the CPU.
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
    """Load the kernels, at the first call; return why they run on no device, or None."""
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
    """What the kernels were compiled for: ("sm_80", "sm_90a"), "compute_80" for its PTX.

    Raises:
        RuntimeError: there are none; the message says why.
    """
    why = load()
    if why is not None:
        raise RuntimeError(why)
    names = ctypes.CDLL(str(LIBRARY)).fastclip_cuda_architectures
    names.restype = ctypes.c_char_p
    return tuple(names().decode().split())


def objection_to(capability: tuple[int, int]) -> str | None:
    """Why the kernels cannot run on a GPU of this compute capability."""
    compiled = architectures()
    if any(_runs_on(name, capability) for name in compiled):
        return None
    return "its kernels were compiled for {}, not for sm_{}{}".format(
        ", ".join(compiled), *capability
    )


def _runs_on(name: str, capability: tuple[int, int]) -> bool:
    """Machine code runs on later minors, PTX on everything later, architecture-specific code (the
    "a" of sm_90a) on nothing else."""
    kind, digits, specific = re.fullmatch(r"(sm|compute)_(\d+)(a?)", name).groups()
    own = divmod(int(digits), 10)
    if specific:
        return capability == own
    return capability >= own and (kind == "compute" or capability[0] == own[0])


@contextmanager
def emulator(path: Path) -> Iterator[None]:
    """Within the context, features on the CPU are taken too. For tests."""
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
    """That of the current device, which is that of `on`."""
    return torch.cuda.current_stream().cuda_stream if on.is_cuda else 0
