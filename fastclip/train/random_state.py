"""The state of the random generators that a forward draws from: on the CPU and on a GPU."""

from typing import NamedTuple

import torch
from torch import Tensor


class RandomState(NamedTuple):
    """What dropout and patch dropout are drawn from.

    Attributes:
        cpu: state of torch's generator on the CPU.
        device: state of the generator of the current CUDA device, or None without one.
    """

    cpu: Tensor
    device: Tensor | None

    @classmethod
    def now(cls) -> "RandomState":
        on_device = torch.cuda.is_available() and torch.cuda.is_initialized()
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if on_device else None)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.device is not None:
            torch.cuda.set_rng_state(self.device)
