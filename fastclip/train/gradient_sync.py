"""One synchronisation of gradients per step, whatever wraps the model.

DistributedDataParallel averages gradients over ranks in every backward unless it is told not to,
and it decides so at the forward: a graph that was made without synchronisation stays without. FSDP2
decides at the backward. A bare module synchronises nothing.
"""

import contextlib

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, for forwards that have no backward."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@contextlib.contextmanager
def gradient_sync(model: nn.Module, enabled: bool):
    """Forwards and backwards in this context synchronise gradients, or only add them up."""
    if isinstance(model, DistributedDataParallel):
        with contextlib.nullcontext() if enabled else model.no_sync():
            yield
    elif hasattr(model, "set_requires_gradient_sync"):  # FSDP2
        model.set_requires_gradient_sync(enabled)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)
    else:
        yield


def is_distributed(model: nn.Module) -> bool:
    return isinstance(model, DistributedDataParallel) or hasattr(
        model, "set_requires_gradient_sync"
    )


def average_over_ranks(tensor, model: nn.Module) -> None:
    """Average in place, over the ranks that `model` is distributed over."""
    if is_distributed(model) and dist.is_initialized():
        group = getattr(model, "process_group", None)
        dist.all_reduce(tensor, group=group)
        tensor /= dist.get_world_size(group)
