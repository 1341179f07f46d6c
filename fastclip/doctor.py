"""`fastclip doctor`: what is installed, which backends run here, and why the others do not."""

import argparse
import importlib.util
import platform
import sys
from importlib import metadata

import torch

from fastclip import __version__
from fastclip.backends import native
from fastclip.backends.cuda import library
from fastclip.ops.dispatch import reasons

OPTIONAL = {
    "sklearn": "fastclip demo",
    "matplotlib": "fastclip demo, plots of fastclip bench",
    "tqdm": "progress bars",
    "open_clip": "vocabulary of CLIP's tokenizer; a peer in fastclip bench",
    "transformers": "Hugging Face tokenizers; a peer in fastclip bench",
    "huggingface_hub": "its cache and tokens for published weights",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    print(f"fastclip   {__version__}")
    print(f"python     {platform.python_version()} ({sys.platform}, {platform.machine()})")
    print(f"torch      {torch.__version__}, {torch.get_num_threads()} threads")
    cuda = torch.version.cuda or "not in this torch"
    print(f"gpu        CUDA {cuda}, triton {_installed_version('triton')}")
    _print_native()
    kernels = library.objection() or ", ".join(library.architectures())
    print(f"kernels    CUDA: {kernels}")
    print("\nbackends, in the order in which backend='auto' tries them")
    _print_backends("the CPU", "cpu", torch.float32)
    if torch.cuda.is_available():
        _print_backends(torch.cuda.get_device_name(), "cuda", torch.bfloat16)
    print("\noptional packages")
    for name, purpose in OPTIONAL.items():
        found = "installed" if importlib.util.find_spec(name) else "missing"
        print(f"  {name:<13} {found:<10} ({purpose})")
    return 0


def _print_backends(device: str, device_type: str, dtype: torch.dtype, D: int = 512) -> None:
    print(f" {str(dtype).removeprefix('torch.')} features, D = {D}, on {device}")
    for name, reason in reasons(torch.device(device_type), dtype, D).items():
        print(f"  {name:<10} {reason or 'runs'}")


def _installed_version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _print_native() -> None:
    objection = native.objection()
    if objection is not None:
        print(f"native     none: {objection}")
        return
    info = native.build_info()
    print(f"native     {info['compiler']}, torch {info['torch_version']}, {info['flags']}")
    print(f"           kernels for {info['cpu_capability']}")
    if info["torch_version"] != torch.__version__.split("+")[0]:
        print("           WARNING: built for another torch; reinstall fastclip-kernels")
