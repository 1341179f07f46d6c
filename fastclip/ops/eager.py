"""Which rectangles may be computed by one node in C++, of which nothing but autograd knows.

The dozen nodes that Python makes of a loss cost as much as its matrix products, on a CPU at a batch
of 64, on a GPU at one of thousands.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastclip.rectangle import BOTH, MAIN_DIAGONAL, Rectangle


def is_eager_square(rectangle: Rectangle) -> bool:
    """Whether it has all pairs on its diagonal and leaves out nothing, and the mode is eager."""
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
    """Whether nothing but autograd's reverse mode has to know what is done to `features`."""
    # Subclasses (fake, functional, distributed tensors) need operators that they can intercept; so
    # do the transforms of torch.func and forward mode, whose tensors look like plain ones.
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    return type(features) in (Tensor, torch.nn.Parameter)
