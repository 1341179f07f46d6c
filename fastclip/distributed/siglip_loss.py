"""The sigmoid loss of the pairs of all ranks.

    loss = sum over ranks of (the losses of own rows and all columns) / N

with the derivative that `fastclip/distributed/__init__.py` promises. The loss is symmetric, so that
either side may be the rows.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import gather, ring_sigmoid_loss
from fastclip.distributed.agreement import agree
from fastclip.distributed.exchange import sum_over_ranks
from fastclip.distributed.sides import texts_are_rows
from fastclip.ops.validation import scalar_tensor

_SCHEDULES = {"gather": gather.sigmoid_loss, "ring": ring_sigmoid_loss.sigmoid_loss}


# Collectives have no place in a graph of torch.compile: it breaks here.
@torch.compiler.disable
def siglip_loss_over_ranks(
    image_features: Tensor,  # (B, D)
    text_features: Tensor,  # (B, D)
    logit_scale: float | Tensor,  # of one element
    logit_bias: float | Tensor,  # of one element
    group: ProcessGroup,
    schedule: str,
    normalize: bool,
    backend: str,
    workspace: int | None,
) -> Tensor:
    """Returns the loss, ()."""
    scale = scalar_tensor("logit_scale", logit_scale, image_features)
    bias = scalar_tensor("logit_bias", logit_bias, image_features)
    ranks = agree(
        group, "siglip_loss", schedule, image_features, text_features, logit_scale, logit_bias,
        normalize,
    )  # fmt: skip
    sides = image_features, text_features
    rows, cols = reversed(sides) if texts_are_rows(*sides) else sides
    total = _SCHEDULES[schedule](rows, cols, scale, bias, ranks, normalize, backend, workspace)
    return (sum_over_ranks(total.double(), ranks) / ranks.num_pairs).to(total.dtype)
