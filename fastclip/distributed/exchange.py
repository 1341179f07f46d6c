"""Linear maps between ranks, each with its adjoint as its derivative.

    gather_rows      (B_r, ...) of every rank -> (N, ...), the same on all ranks
    send_to_owners   (N, ...) -> (W, B_r, ...): what each rank has for the rows of this rank
    sum_over_ranks   (...) -> (...), in the order of ranks: the same bits on all of them

The adjoint of gather_rows is a reduce-scatter, here done by send_to_owners and a sum: 16-bit
gradients are sent in 16 bits and added in float32 (float64 in float64), in a fixed order with any
communication backend, and uneven batches need no padding.

The derivative of sum_over_ranks is W: each rank's loss is the same number, and DDP divides by W
(`fastclip/distributed/__init__.py`).
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from fastclip.backends.normalization import compute_dtype
from fastclip.distributed.agreement import Ranks
from fastclip.distributed.waiting import Exchange


def gather_rows(rows: Tensor, ranks: Ranks) -> Tensor:  # (B_r, ...) -> (N, ...)
    return _GatherRows.apply(rows, ranks)


def send_to_owners(rows: Tensor, ranks: Ranks) -> Tensor:  # (N, ...) -> (W, B_r, ...)
    return _SendToOwners.apply(rows, ranks)


def sum_over_ranks(partial: Tensor, ranks: Ranks) -> Tensor:  # (...) -> (...)
    return _SumOverRanks.apply(partial, ranks)


def of_all_ranks(values: Tensor, ranks: Ranks) -> Tensor:  # (...) -> (W, ...)
    """Return the `values` of all ranks, without a gradient; for small tensors."""
    values = values.detach().contiguous()
    everyone = [torch.empty_like(values) for _ in ranks.sizes]
    with Exchange(ranks.group):
        dist.all_gather(everyone, values, ranks.group)
    return torch.stack(everyone)


class _OverRanks(Function):
    """A function of (tensor, ranks); its forward has no context, so that torch.func accepts it."""

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Ranks], output: Tensor) -> None:
        _, ctx.ranks = inputs


class _GatherRows(_OverRanks):
    @staticmethod
    def forward(rows: Tensor, ranks: Ranks) -> Tensor:
        largest = max(ranks.sizes)
        padded = rows.contiguous()
        if len(rows) < largest:
            padded = rows.new_zeros((largest, *rows.shape[1:]))
            padded[: len(rows)] = rows
        everyone = rows.new_empty((ranks.world_size * largest, *rows.shape[1:]))
        with Exchange(ranks.group):
            _all_gather(everyone, padded, group=ranks.group)
        if min(ranks.sizes) == largest:
            return everyone
        blocks = zip(everyone.split(largest), ranks.sizes, strict=True)
        return torch.cat([block[:size] for block, size in blocks])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # (N, ...)
        partials = send_to_owners(grad, ctx.ranks)
        return partials.sum(0, dtype=compute_dtype(grad.dtype)).to(grad.dtype), None


class _SendToOwners(_OverRanks):
    @staticmethod
    def forward(rows: Tensor, ranks: Ranks) -> Tensor:
        W, size = ranks.world_size, ranks.own_size
        received = _exchange(rows, list(ranks.sizes), [size] * W, ranks)
        return received.view(W, size, *rows.shape[1:])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # (W, B_r, ...)
        return _SendFromOwners.apply(grad, ctx.ranks), None


class _SendFromOwners(_OverRanks):
    """The transpose of _SendToOwners."""

    @staticmethod
    def forward(rows: Tensor, ranks: Ranks) -> Tensor:
        sent = [ranks.own_size] * ranks.world_size
        return _exchange(rows.flatten(0, 1), sent, list(ranks.sizes), ranks)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # (N, ...)
        return _SendToOwners.apply(grad, ctx.ranks), None


class _SumOverRanks(_OverRanks):
    @staticmethod
    def forward(partial: Tensor, ranks: Ranks) -> Tensor:
        return of_all_ranks(partial, ranks).sum(0)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.ranks.world_size, None


def _exchange(rows: Tensor, sent: list[int], received: list[int], ranks: Ranks) -> Tensor:
    result = rows.new_empty((sum(received), *rows.shape[1:]))
    with Exchange(ranks.group):
        dist.all_to_all_single(result, rows.contiguous(), received, sent, group=ranks.group)
    return result


# torch 2.13 renamed this function and warns about the old name.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
