"""The device that kernels are launched on, and what it is. Tests put others in these functions."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def device_of(features: Tensor) -> Any:
    """A context in which `features.device` is the current one: kernels are launched on that."""
    return torch.cuda.device(features.device) if features.is_cuda else nullcontext()


def is_gpu(device: torch.device) -> bool:
    """Whether kernels for a GPU may be chosen there; on a CPU they run in tests only, if named."""
    return device.type != "cpu"


def name(device: torch.device) -> str:
    """For example "NVIDIA H200"; without a GPU the type of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def architecture(device: torch.device) -> str:
    """For example "sm_90", or "gfx942"; without a GPU the type of the device."""
    if device.type != "cuda":
        return device.type
    if torch.version.hip is not None:
        return torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0]
    return "sm_{}{}".format(*torch.cuda.get_device_capability(device))


def is_capturing(device: torch.device) -> bool:
    """Whether the current stream is being captured in a CUDA graph, which nothing may wait for."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def synchronize(device: torch.device) -> None:
    """Wait for the device; raises what torch does where its context is lost."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
