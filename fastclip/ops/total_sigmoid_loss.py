"""The sum of all sigmoid losses of a rectangle, by the shortest way that the backend offers.

With gradients and a backend that has them in one pass, `siglip_total`: three products instead of
four. Otherwise the rows of `siglip_sum`, added up.
"""

from torch import Tensor

from fastclip.ops.dispatch import has_one_pass_siglip
from fastclip.ops.kept_rows import kept_rows, needs_grad
from fastclip.ops.siglip_sum import siglip_sum
from fastclip.ops.siglip_total import siglip_total


def total_sigmoid_loss(
    row_features: Tensor,  # (M, D)
    col_features: Tensor,  # (N, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    positive_offset: int,
    normalize: bool,
    backend: str,
    workspace: int | None,
) -> Tensor:  # ()
    inputs = row_features, col_features, logit_scale, logit_bias
    if needs_grad(*inputs) and has_one_pass_siglip(backend):
        needs = row_features.requires_grad, col_features.requires_grad
        total, *_ = siglip_total(*inputs, positive_offset, normalize, backend, workspace, *needs)
        return total
    kept = kept_rows(backend, "siglip_sum", workspace, *inputs)
    row_loss, _ = siglip_sum(*inputs, positive_offset, normalize, backend, workspace, kept)
    return row_loss.sum()
