"""The device that kernels are launched on, and the name of what it is."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def device_of(features: Tensor) -> Any:
    """A context in which `features.device` is the current one: kernels are launched on that."""
    return torch.cuda.device(features.device) if features.is_cuda else nullcontext()


def architecture(device: torch.device) -> str:
    """For example "sm_90", or "gfx942"; without a GPU the type of the device."""
    if device.type != "cuda":
        return device.type
    if torch.version.hip is not None:
        return torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0]
    return "sm_{}{}".format(*torch.cuda.get_device_capability(device))
