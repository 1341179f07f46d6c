"""The device that kernels are launched on."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def device_of(features: Tensor) -> Any:
    """A context in which `features.device` is the current one: kernels are launched on that."""
    return torch.cuda.device(features.device) if features.is_cuda else nullcontext()
