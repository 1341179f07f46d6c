"""Builds the native module `fastclip._C`.

FASTCLIP_BUILD chooses what is built:

    auto   (default) what this machine can build; pure Python, saying so, where it cannot
    none   pure Python
    cpu    the C++ kernels; fails if they cannot be built
    cuda   the CUDA kernels; fails if they cannot be built

torch is needed at build time and taken from the environment: use `pip install
--no-build-isolation`. torch's own MAX_JOBS and CXX are respected.
"""

import os
import sys
from pathlib import Path

from setuptools import setup

CHOICES = ("auto", "none", "cpu", "cuda")
CXX_FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wall")


def native_extension(choice: str) -> dict:
    """Arguments of `setup` for the native module."""
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    if choice == "cuda":
        raise SystemExit("FASTCLIP_BUILD=cuda: this version has no CUDA kernels; use cpu or auto")

    class Build(BuildExtension):
        def run(self):
            try:
                super().run()
            except Exception as error:
                if choice != "auto":
                    raise
                say(f"the C++ kernels could not be built, installing pure Python: {error}")
                self.extensions = []

    sources = sorted(str(p) for p in Path("csrc").rglob("*.cpp"))
    flags = " ".join(CXX_FLAGS)
    extension = CppExtension(
        "fastclip._C",
        sources,
        depends=sorted(str(p) for p in Path("csrc").rglob("*.h")),
        extra_compile_args=[*CXX_FLAGS, f'-DFASTCLIP_CXX_FLAGS="{flags}"'],
        extra_link_args=["-fopenmp"],
    )
    return {"ext_modules": [extension], "cmdclass": {"build_ext": Build}}


def say(message: str) -> None:
    print(f"fastclip: {message}", file=sys.stderr)


def build_arguments() -> dict:
    choice = os.environ.get("FASTCLIP_BUILD", "auto")
    if choice not in CHOICES:
        raise SystemExit(f"FASTCLIP_BUILD must be one of {CHOICES}, got {choice!r}")
    if choice == "none":
        return {}
    try:
        return native_extension(choice)
    except ImportError as error:
        if choice != "auto":
            raise SystemExit(
                f"FASTCLIP_BUILD={choice} needs torch at build time ({error}); "
                "install torch first, then use pip install --no-build-isolation"
            ) from error
        say(f"torch is not importable in the build ({error}), installing pure Python")
        return {}


setup(**build_arguments())
