"""The sum of all sigmoid losses of a rectangle, by the shortest way that the backend offers.

With gradients and a backend that has them in one pass, `siglip_total`: three products instead of
four; in eager mode on `cpu` as one node in C++ (`csrc/cpu/siglip_loss.cpp`). Otherwise the rows of
`siglip_sum`, added up.
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
