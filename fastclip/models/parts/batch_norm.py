"""Batch normalisation where a batch passes twice: its running statistics count it once.

Gradient checkpointing and gradient caching compute a forward again for its backward. The second
one normalises with the statistics of the batch, as the first did, and leaves the running ones.
"""

import contextlib
from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """All batch normalisations in `module`, synchronised ones included."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


@contextlib.contextmanager
def without_statistics(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Forwards in this context leave the running statistics of `norms` as they are."""
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


def _counted(bn: _BatchNorm):
    counter = bn.num_batches_tracked
    return None if counter is None else counter.clone()
