"""A mean over the values of all ranks, where ranks have different numbers of values."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.waiting import Exchange


# Collectives cannot be in a graph of torch.compile: the graph breaks here.
@torch.compiler.disable
def weighted_mean(total: Tensor, count: Tensor, group: ProcessGroup | None) -> Tensor:
    """Return the sum of all ranks' totals over the sum of their counts; 0 if all counts are 0.

    All ranks return the same bits. The gradient with respect to a rank's total is W times its
    share, so that the mean over ranks, which a training step takes, is the result's gradient.

    Args:
        total: (), this rank's total, maybe with a graph.
        count: (), this rank's count.
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
