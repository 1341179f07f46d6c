"""Stochastic depth: in training, a residual branch is left out for some of the samples.

Source: Huang et al. 2016, arXiv:1603.09382.
"""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Leaves out a sample's branch with probability `rate`, and scales up the other branches."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return branch
        kept = 1.0 - self.rate
        per_sample = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        stays = torch.empty(per_sample, dtype=branch.dtype, device=branch.device).bernoulli_(kept)
        return branch * (stays / kept)

    def extra_repr(self) -> str:
        return f"{self.rate:.3f}"


def rising_rates(highest: float, num_blocks: int) -> list[float]:
    """Return the rate of each block, rising from 0 in the first block to `highest` in the last."""
    return [highest * block / max(1, num_blocks - 1) for block in range(num_blocks)]
