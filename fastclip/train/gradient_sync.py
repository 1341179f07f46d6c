"""One synchronisation of gradients per step, whatever wraps the model.

DistributedDataParallel averages gradients over ranks in every backward unless it is told not to,
and it decides so at the forward: a graph that was made without synchronisation stays without. FSDP2
decides at the backward, and gathers weights in every forward: ranks have to make equally many. A
bare module synchronises nothing.
"""

import contextlib

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastclip.train.sharding import group_of, is_sharded, is_share


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, for forwards that have no backward."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def is_replicated(model: nn.Module) -> bool:
    """Does every rank have the whole model, and synchronise as of the last forward?"""
    return isinstance(model, DistributedDataParallel)


@contextlib.contextmanager
def gradient_sync(model: nn.Module, enabled: bool):
    """Forwards and backwards in this context synchronise gradients, or only add them up."""
    if is_replicated(model):
        with contextlib.nullcontext() if enabled else model.no_sync():
            yield
    elif is_sharded(model):
        model.set_requires_gradient_sync(enabled)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
        if enabled:
            for parameter in model.parameters():  # those that FSDP2 leaves alone
                if parameter.grad is not None and not is_share(parameter):
                    average_over_ranks(parameter.grad, model)
    else:
        yield


def least_over_ranks(number: int, model: nn.Module) -> int:
    """What all ranks agree on where the model communicates in its forwards.

    A sharded one gathers weights; a replicated one with buffers, such as running statistics, sends
    them around in the first forward that is going to be synchronised.
    """
    if not (is_sharded(model) or (is_replicated(model) and any(True for _ in model.buffers()))):
        return number
    least = torch.tensor(number, device=next(model.parameters()).device)
    dist.all_reduce(least, dist.ReduceOp.MIN, group=_group(model))
    return int(least)


def average_over_ranks(tensor: Tensor, model: nn.Module) -> None:
    """Average in place, over the ranks that `model` is distributed over."""
    if is_replicated(model) or is_sharded(model):
        dist.all_reduce(tensor, group=_group(model))
        tensor /= dist.get_world_size(_group(model))


def _group(model: nn.Module) -> dist.ProcessGroup:
    return model.process_group if is_replicated(model) else group_of(model)
