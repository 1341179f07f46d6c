"""The sets of GPU kernels that are checked and compared: a backend in one variant."""

import importlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType

import torch

from fastclip.backends.cuda.variants import chosen_variant, variants_on
from fastclip.backends.gpu import verified
from fastclip.benchmarks.gpu.watched import AHEAD_OF_TIME, COMPILING, Patience
from fastclip.ops.dispatch import load_backend


@dataclass(frozen=True)
class Kernels:
    backend: str
    variant: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.backend, self.variant)))

    def chosen(self) -> AbstractContextManager:
        """Return a context in which the backend uses these kernels."""
        return chosen_variant(self.variant) if self.variant else nullcontext()

    def module(self) -> ModuleType:
        return importlib.import_module(f"fastclip.backends.{self.backend}.kernels")

    @property
    def compiles(self) -> bool:
        """Return whether the first call of each kernel compiles it."""
        return self.backend == "triton"

    @property
    def patience(self) -> Patience:
        return COMPILING if self.compiles else AHEAD_OF_TIME


ALL = tuple(Kernels(*names) for names in verified.KERNELS)
CHUNKED = Kernels("chunked")  # runs if none of the kernels does


def find_kernels(name: str) -> Kernels:
    return next(kernels for kernels in (*ALL, CHUNKED) if str(kernels) == name)


def kernels_on(device: str, dtype: torch.dtype) -> list[Kernels]:
    """Return the sets that run on this device; a backend's default variant comes first."""
    variants = {"triton": lambda device: ("",), "cuda": variants_on}
    return [
        Kernels(backend, variant)
        for backend, on in variants.items()
        if load_backend(backend).unsupported(device, dtype) is None
        for variant in on(torch.device(device))
    ]


def sets_on(device: str) -> list[Kernels]:
    """Return the sets that run with any dtype: Hopper's first, then others that are compiled."""
    found = {k for dtype in verified.DTYPES for k in kernels_on(device, getattr(torch, dtype))}
    return sorted(found, key=lambda kernels: (kernels.compiles, kernels.variant))


def missing_from(device: str) -> dict[str, str]:
    """Return the reason why a backend has no kernels on this device, by its name."""
    objections = {
        backend: load_backend(backend).unsupported(device, torch.float32)
        for backend in dict.fromkeys(kernels.backend for kernels in ALL)
    }
    return {backend: why for backend, why in objections.items() if why is not None}
