"""Compute the sum of all sigmoid losses of a rectangle, in the fastest way of the backend.

With gradients, and a backend that computes them in one pass, this is `siglip_total`, with three
products instead of four; in eager mode on `cpu` it is one node in C++ (`csrc/cpu/siglip_loss.cpp`).
Otherwise the row losses of `siglip_sum` are added up.
"""

import torch
from torch import Tensor

from fastclip.ops.dispatch import Call
from fastclip.ops.eager import is_eager_square
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.siglip_total import siglip_total
from fastclip.rectangle import Rectangle


def total_sigmoid_loss(rectangle: Rectangle, logit_bias: Tensor, call: Call) -> Tensor:  # ()
    if call.one_pass:
        if call.backend == "cpu" and is_eager_square(rectangle):
            rows, cols, logit_scale = rectangle[:3]
            native = torch.ops.fastclip_native.siglip_loss
            return native(rows, cols, logit_scale, logit_bias, rectangle.normalize)
        return siglip_total(rectangle, logit_bias, call)
    row_loss, _ = siglip_sum(rectangle, logit_bias, call)
    return row_loss.sum()
