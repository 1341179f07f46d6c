"""The sum of all sigmoid losses of a rectangle, by the shortest way that the backend offers.

With gradients and a backend that has them in one pass, `siglip_total`: three products instead of
four. Otherwise the rows of `siglip_sum`, added up.
"""

from torch import Tensor

from fastclip.ops.dispatch import Call
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.siglip_total import siglip_total
from fastclip.rectangle import Rectangle


def total_sigmoid_loss(rectangle: Rectangle, logit_bias: Tensor, call: Call) -> Tensor:  # ()
    if call.one_pass:
        return siglip_total(rectangle, logit_bias, call)
    row_loss, _ = siglip_sum(rectangle, logit_bias, call)
    return row_loss.sum()
