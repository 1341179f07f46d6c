"""Find out whether one node in C++, which only autograd sees, may compute a rectangle.

Python computes a loss in a dozen nodes. These cost as much as the matrix products at a batch of 64
on a CPU, and at a batch of thousands on a GPU.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastclip.rectangle import BOTH, MAIN_DIAGONAL, Rectangle


def is_eager_square(rectangle: Rectangle) -> bool:
    """Return whether the mode is eager and this is a square with all pairs and no exclusions."""
    rows, cols = rectangle[:2]
    return (
        rows.shape[0] == cols.shape[0]
        and rectangle.sides == BOTH
        and rectangle.positives == MAIN_DIAGONAL
        and rectangle.excluded is None
        and _is_plain(rows)
        and not torch.compiler.is_compiling()
    )


def _is_plain(features: Tensor) -> bool:
    """Return whether only autograd's reverse mode must see the operations on `features`."""
    # Subclasses (fake, functional, distributed tensors) need operators that they can intercept; so
    # do the transforms of torch.func and forward mode, whose tensors look like plain ones.
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    return type(features) in (Tensor, torch.nn.Parameter)
