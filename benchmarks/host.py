"""Describe the machine of a measurement, without which its numbers mean nothing."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import torch

from fastclip.backends.gpu.device import architecture

PEERS = ("open_clip_torch", "transformers")
# Variables that decide how many threads run, and whether they wait in a loop.
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "KMP_BLOCKTIME")


def facts() -> dict[str, str | int | float | None]:
    return {
        "cpu": cpu_model(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
        "load": round(os.getloadavg()[0], 1),  # other work: above 0 at the start means noise
        "memory_gib": round((_meminfo("MemTotal") or 0) / 2**30, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fastclip": installed_version("fastclip-kernels") or "not installed",
        **{peer: installed_version(peer) or "not installed" for peer in PEERS},
    }


def device_name(device: str = "cpu") -> str:
    """Return the CPU model and threads, or the GPU's model, as a name for a folder."""
    if device == "cuda":
        return gpu_name()
    return re.sub(r"[^a-z0-9]+", "-", f"{cpu_model()} {torch.get_num_threads()} threads".lower())


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def gpu_facts() -> dict[str, str | int | float]:
    """Return the facts of the current CUDA device, to be added to `facts`."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "architecture": architecture(torch.device("cuda")),
        "multiprocessors": properties.multi_processor_count,
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda or torch.version.hip,
        "triton": installed_version("triton") or "not installed",
    }


def gpu_name() -> str:
    """Return the GPU's model as a name for a folder."""
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower())


def available_bytes(device: str = "cpu") -> int | None:
    """Return how many bytes can be allocated without swapping; None if that is unknown."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return _meminfo("MemAvailable")


def _meminfo(field: str) -> int | None:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
