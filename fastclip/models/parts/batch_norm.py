"""Batch normalisation whose running statistics count a batch once, although it passes twice.

Gradient checkpointing and gradient caching run a forward a second time for its backward. The second
forward normalises with the batch's statistics, like the first, and must not change the running
statistics again.
"""

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return all batch normalisations in `module`, including synchronised ones."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


@contextlib.contextmanager
def without_statistics(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Context in which forwards leave the running statistics of `norms` as they are."""
    training = [(bn, bn.momentum) for bn in norms if bn.training]
    before = [_counted(bn) for bn, _ in training]
    for bn, _ in training:
        bn.momentum = 0.0
    try:
        yield
    finally:
        for (bn, momentum), count in zip(training, before, strict=True):
            bn.momentum = momentum
            if count is not None:
                bn.num_batches_tracked.copy_(count)


def keep_frozen(norms: Iterable[_BatchNorm]) -> None:
    """Put each of `norms` whose gains are not trained into evaluation mode."""
    for bn in norms:
        if bn.weight is not None and not bn.weight.requires_grad:
            bn.eval()


def count_once(module: nn.Module) -> None:
    """Make forwards inside a backward, as in checkpointing, leave running statistics unchanged."""
    for bn in batch_norms(module):
        again: list = []
        bn.register_forward_pre_hook(partial(_enter, again))
        bn.register_forward_hook(partial(_leave, again), always_call=True)


def _enter(again: list, bn: nn.Module, inputs: tuple) -> None:
    if torch._C._current_graph_task_id() != -1:  # a backward is running
        again.append(without_statistics([bn]))
        again[-1].__enter__()


def _leave(again: list, bn: nn.Module, inputs: tuple, output: object) -> None:
    if again:
        again.pop().__exit__(None, None, None)


def _counted(bn: _BatchNorm):
    counter = bn.num_batches_tracked
    return None if counter is None else counter.clone()
