"""`fastclip doctor`: what is installed, which backends run here, and why the others do not."""

import argparse
import importlib.util
import platform
import sys

import torch

from fastclip import __version__
from fastclip.backends import native
from fastclip.ops.dispatch import explain_backends

OPTIONAL = {
    "sklearn": "fastclip demo",
    "matplotlib": "fastclip demo, plots of fastclip bench",
    "tqdm": "progress bars",
    "open_clip": "a peer in fastclip bench",
    "transformers": "a peer in fastclip bench",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    print(f"fastclip   {__version__}")
    print(f"python     {platform.python_version()} ({sys.platform}, {platform.machine()})")
    print(f"torch      {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"cuda       {torch.version.cuda or 'not in this torch'}")
    _print_native()
    print("\nbackends for float32 features on the CPU, in the order of backend='auto'")
    for name, objection in explain_backends().items():
        print(f"  {name:<10} {'runs' if objection is None else 'does not run: ' + objection}")
    print("\noptional packages")
    for name, purpose in OPTIONAL.items():
        found = "installed" if importlib.util.find_spec(name) else "missing"
        print(f"  {name:<13} {found:<10} ({purpose})")
    return 0


def _print_native() -> None:
    objection = native.objection()
    if objection is not None:
        print(f"native     none: {objection}")
        return
    info = native.build_info()
    print(f"native     {info['compiler']}, torch {info['torch_version']}, {info['flags']}")
    print(f"           kernels for {info['cpu_capability']}, CUDA: {info['cuda_archs'] or 'none'}")
    if info["torch_version"] != torch.__version__.split("+")[0]:
        print("           WARNING: built for another torch; reinstall fastclip-kernels")
