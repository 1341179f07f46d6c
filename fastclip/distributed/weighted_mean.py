"""A mean over what all ranks have, where ranks have different numbers of it."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.waiting import Exchange


# Collectives have no place in a graph of torch.compile: it breaks here.
@torch.compiler.disable
def weighted_mean(total: Tensor, count: Tensor, group: ProcessGroup | None) -> Tensor:
    """Return the sum of all ranks' totals over the sum of their counts; 0 where there is nothing.

    All ranks have the same bits. The gradient w.r.t. this rank's total is such that its mean over
    the ranks, which a training step takes, is that of the result.

    Args:
        total: () of this rank, maybe with a graph.
        count: () of this rank.
        group: None for this process alone.
    """
    if group is None:
        return total / count.clamp(min=1)
    sums = torch.stack([total.detach().double(), count.double()])
    with Exchange(group):
        dist.all_reduce(sums, group=group)
    num = sums[1].clamp(min=1)
    own = total * (group.size() / num)
    value = (sums[0] / num).to(total.dtype)
    return value + (own - own.detach()).to(total.dtype)
