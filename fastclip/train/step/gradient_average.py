"""Averages gradients over ranks, with one all-reduce for all gradients of a dtype.

The mean is the same as DistributedDataParallel's: a parameter that has a gradient on some ranks
only counts as zero on the others, and a parameter that has none on any rank keeps none.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup


def average_gradients(parameters: Sequence[nn.Parameter], group: ProcessGroup) -> None:
    """Average `.grad` of parameters in place over the ranks of `group`.

    Args:
        parameters: the same parameters in the same order on every rank.

    Raises:
        ValueError: a gradient is sparse.
    """
    if any(p.grad is not None and p.grad.layout != torch.strided for p in parameters):
        raise ValueError(
            "average_over must be None for a model with sparse gradients: they cannot be averaged "
            "together with the others"
        )
    kinds: dict[tuple, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    for same in kinds.values():
        _average(same, group)


def _average(parameters: list[nn.Parameter], group: ProcessGroup) -> None:
    flat = torch.cat([_gradient(p).flatten() for p in parameters] + [_presence(parameters)])
    # Divided first, because the sum over many ranks could overflow in 16 bits.
    flat /= group.size()
    dist.all_reduce(flat, group=group)
    *means, presence = flat.split([p.numel() for p in parameters] + [len(parameters)])
    lacking = [i for i, p in enumerate(parameters) if p.grad is None]
    # Only a rank that lacks a gradient has to wait for the device, to know if another has one.
    elsewhere = presence[lacking].tolist() if lacking else []
    for i, exists in zip(lacking, elsewhere, strict=True):
        if exists:
            parameters[i].grad = torch.empty_like(parameters[i])
    for parameter, mean in zip(parameters, means, strict=True):
        if parameter.grad is not None:
            parameter.grad.copy_(mean.view_as(parameter))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _presence(parameters: list[nn.Parameter]) -> Tensor:
    """Return a vector with a one for each parameter that has a gradient on this rank, else zero."""
    here = [0.0 if p.grad is None else 1.0 for p in parameters]
    return torch.tensor(here, dtype=parameters[0].dtype, device=parameters[0].device)
