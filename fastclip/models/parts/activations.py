"""The three activations that published CLIP and SigLIP weights were trained with.

    gelu         x Phi(x)                      open_clip's own weights
    gelu_tanh    its approximation by tanh     SigLIP
    quick_gelu   x sigmoid(1.702 x)            OpenAI's weights, MetaCLIP, DFN

They differ by 0.02 at most, and a model run with another one than it was trained with is worse by
some points without any other sign of it. So an activation has a name that is stored with weights.

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.data.quoting import quoted

QUICK_GELU_SLOPE = 1.702


class QuickGELU(nn.Module):
    """x sigmoid(a x) = silu(a x) / a: written so, the backward keeps one tensor and not two."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(QUICK_GELU_SLOPE * x).mul_(1 / QUICK_GELU_SLOPE)


ACTIVATIONS = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "quick_gelu": QuickGELU,
}


# Of towers whose configurations leave no choice: TIPS's text tower.
FIXED = {"relu": nn.ReLU}


def make_activation(name: str) -> nn.Module:
    """The module of an activation, of those above or, of towers that have no other, "relu".

    Raises:
        ValueError: there is none of that name.
    """
    if name in tuple(FIXED):  # a name that cannot be hashed is not in a tuple, and no error here
        return FIXED[name]()
    require_activation(name)
    return ACTIVATIONS[name]()


def require_activation(name: str) -> None:
    if name not in tuple(ACTIVATIONS):  # which a name that cannot be hashed is not in, either
        raise ValueError(f"activation must be one of {tuple(ACTIVATIONS)}, got {quoted(name)}")
