"""The device on which kernels are launched, and its properties. Tests replace these functions."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def device_of(features: Tensor) -> Any:
    """Return a context in which the features' device is current, as kernels need it."""
    return torch.cuda.device(features.device) if features.is_cuda else nullcontext()


def is_gpu(device: torch.device) -> bool:
    """Return whether GPU kernels may be chosen there; on a CPU they run only in tests, if named."""
    return device.type != "cpu"


def name(device: torch.device) -> str:
    """Return the device's name, such as "NVIDIA H200"; without a GPU the type of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def architecture(device: torch.device) -> str:
    """Return the architecture, such as "sm_90" or "gfx942"; without a GPU the device's type."""
    if device.type != "cuda":
        return device.type
    if torch.version.hip is not None:
        return torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0]
    return "sm_{}{}".format(*torch.cuda.get_device_capability(device))


def is_capturing(device: torch.device) -> bool:
    """Return whether a CUDA graph captures the current stream; then nothing may wait for it."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def synchronize(device: torch.device) -> None:
    """Wait for the device; raises torch's error if the device's context is lost."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
