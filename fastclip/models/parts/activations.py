"""The three activations that published CLIP and SigLIP weights were trained with.

    gelu         x Phi(x)                      open_clip's own weights
    gelu_tanh    its approximation by tanh     SigLIP
    quick_gelu   x sigmoid(1.702 x)            OpenAI's weights, MetaCLIP, DFN

They differ by 0.02 at most. A model that runs with another activation than it was trained with
loses some points of accuracy, without any other sign. So an activation's name is stored with the
weights.

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.data.quoting import quoted

QUICK_GELU_SLOPE = 1.702


class QuickGELU(nn.Module):
    """x sigmoid(a x), computed as silu(a x) / a, for which autograd keeps one tensor, not two."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(QUICK_GELU_SLOPE * x).mul_(1 / QUICK_GELU_SLOPE)


ACTIVATIONS = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "quick_gelu": QuickGELU,
}


# For towers whose configurations leave no choice: TIPS's text tower.
FIXED = {"relu": nn.ReLU}


def make_activation(name: str) -> nn.Module:
    """Return a new module of an activation: one of `ACTIVATIONS`, or "relu" for TIPS's text tower.

    Raises:
        ValueError: there is no activation of that name.
    """
    if name in tuple(FIXED):  # a tuple, so that a name that cannot be hashed raises nothing here
        return FIXED[name]()
    require_activation(name)
    return ACTIVATIONS[name]()


def require_activation(name: str) -> None:
    if name not in tuple(ACTIVATIONS):  # a tuple, for the same reason
        raise ValueError(f"activation must be one of {tuple(ACTIVATIONS)}, got {quoted(name)}")
