"""The gated MLP of DINOv2's largest vision transformers, under DINOv2's names.

    y = w3(silu(w1(x)) * w2(x)),   where w1 and w2 are stored as one matrix

Source: Shazeer 2020, arXiv:2002.05202; Oquab et al. 2023 (DINOv2), arXiv:2304.07193.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def gated_width(hidden_width: int) -> int:
    """Return a gated MLP's hidden width: 2/3 of a plain MLP's, rounded up to a multiple of 8."""
    return (int(hidden_width * 2 / 3) + 7) // 8 * 8


class SwiGLU(nn.Module):
    """A gated MLP on (..., width), with a hidden layer of `gated_width(hidden_width)` channels."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        inner = gated_width(hidden_width)
        self.w12 = nn.Linear(width, 2 * inner)
        self.w3 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)
