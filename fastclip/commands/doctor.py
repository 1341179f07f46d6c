"""`fastclip doctor`: print what is installed, which backends run, and why others do not."""

import argparse
import importlib.util
import platform
import sys
from importlib import metadata

import torch

from fastclip import __version__
from fastclip.backends import native
from fastclip.backends.cuda import library
from fastclip.backends.gpu import device as gpu_device
from fastclip.backends.gpu import own_verdicts
from fastclip.backends.gpu.known import VERIFY
from fastclip.counted import counted
from fastclip.data.tokenizers.openai_vocabulary import (
    locate_openai_vocabulary,
    openai_vocabulary_address,
    ways_to_get_it,
)
from fastclip.hub import is_offline
from fastclip.installation import PACKAGE, advice_on_hidden_package, install_command
from fastclip.ops.choice import checked_at_first_use, reasons, request

# Maps each module to what it is for, the extra that it belongs to, and its package.
OPTIONAL = {
    "sklearn": ("fastclip demo, the data set digits", "demo", "scikit-learn"),
    "matplotlib": ("fastclip demo, plots of fastclip bench", "demo", "matplotlib"),
    "tqdm": ("progress bars", "train", "tqdm"),
    "yaml": ("settings of fastclip train in YAML", "train", "pyyaml"),
    "tensorboard": ("fastclip train --report-to tensorboard", "train", "tensorboard"),
    "wandb": ("fastclip train --report-to wandb", "train", "wandb"),
    "huggingface_hub": ("cache and tokens of the Hugging Face Hub", "hub", "huggingface_hub"),
    "transformers": ("text towers, tokenizers of the Hub", "hub", "transformers"),
    "timm": ("image towers of timm", "timm", "timm"),
    "datasets": ("Hugging Face data sets", "hub", "datasets"),
    "pyarrow": ("metadata and tables in Parquet", "embed", "pyarrow"),
    "faiss": ("indexes for approximate search", "search", "faiss-cpu"),
    "lance": ("tables of vectors for LanceDB", "lance", "pylance"),
    "ray": ("embedding on several machines", "ray", "ray"),
    "starlette": ("fastclip serve", "serve", "starlette"),
    "uvicorn": ("fastclip serve", "serve", "uvicorn"),
    "onnx": ("fastclip export", "onnx", "onnx"),
    "onnxruntime": ("checks and 8-bit weights of fastclip export", "onnx", "onnxruntime"),
    "tokenizers": ("a check of fastclip export", "onnx", "tokenizers"),
    "open_clip": ("CLIP's vocabulary; a peer in fastclip bench", "peers", "open_clip_torch"),
}


DESCRIPTION = """\
Prints what is installed, which backends run on this machine, and in which order backend='auto'
tries them. For each backend that does not run, it prints the reason and what to do. Add the
output to a bug report.
"""
EPILOG = """\
for example
    fastclip doctor
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG


def run(args: argparse.Namespace) -> int:
    print(f"fastclip   {__version__}, {PACKAGE}")
    if (advice := advice_on_hidden_package()) is not None:
        print(f"           WARNING: {advice}")
    print(f"python     {platform.python_version()} ({sys.platform}, {platform.machine()})")
    print(f"torch      {torch.__version__}, {torch.get_num_threads()} threads")
    cuda = torch.version.cuda or "not in this torch"
    print(f"gpu        CUDA {cuda}, triton {_installed_version('triton')}")
    _print_native()
    kernels = library.load() or ", ".join(library.architectures())
    print(f"kernels    CUDA: {kernels}")
    print("\nbackends, in the order in which backend='auto' tries them")
    _print_backends("the CPU", torch.device("cpu"), torch.float32)
    if torch.cuda.is_available():
        _print_gpu(torch.device("cuda", torch.cuda.current_device()))
    print("\nvocabulary of CLIP's tokenizer")
    _print_vocabulary()
    print("\noptional packages")
    for name, (purpose, extra, package) in OPTIONAL.items():
        found = "installed" if importlib.util.find_spec(name) else "missing"
        how = "" if found == "installed" else f": {install_command(extra, package)}"
        print(f"  {name:<15} {found:<9}  ({purpose}){how}")
    return 0


def _print_vocabulary() -> None:
    located = locate_openai_vocabulary()
    if located is not None:
        print(f"  {located.path}, {located.origin}")
    elif is_offline():
        print(f"  missing, and HF_HUB_OFFLINE is set. {ways_to_get_it()}")
    else:
        print(
            f"  not here yet; it is fetched when first needed, from {openai_vocabulary_address()}"
        )


def _print_backends(name: str, device: torch.device, dtype: torch.dtype, D: int = 512) -> None:
    print(f" {str(dtype).removeprefix('torch.')} features, D = {D}, on {name}")
    wanted = request(device, dtype, D)
    to_check = checked_at_first_use(wanted)
    for backend, reason in reasons(wanted).items():
        if reason is None and backend in to_check:
            reason = "runs; the first call with 'auto' compares it with 'chunked', once"
        print(f"  {backend:<10} {reason or 'runs'}")


def _print_gpu(device: torch.device) -> None:
    _print_backends(gpu_device.name(device), device, torch.bfloat16)
    try:
        path = own_verdicts.path()
    except OSError as error:
        print(f"  verdicts about this GPU cannot be kept: {error}")
        return
    rows = own_verdicts.read()
    holding = sum(own_verdicts.is_current(row, device) for row in rows)
    if rows:
        print(
            f"  {path} has {counted(len(rows), 'verdict')} of your own; {holding} hold for this "
            "GPU, its driver and the versions that are installed"
        )
    print(f"  {VERIFY} checks and times all kernels on this GPU")


def _installed_version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _print_native() -> None:
    objection = native.load()
    if objection is not None:
        print(f"native     not loaded: {objection}")
        return
    info = native.build_info()
    print(f"native     {info['compiler']}, torch {info['torch_version']}, {info['flags']}")
    print(f"           kernels for {info['cpu_capability']}")
    if info["torch_version"] != torch.__version__.split("+")[0]:
        print("           WARNING: built for another torch; reinstall fastclip-kernels")
