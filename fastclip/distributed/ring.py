"""The walk around the ring: every rank's columns visit every rank, and return with a sum.

At step k, rank r works on the columns of rank r - k. Two kinds of tensors travel:

    constants     features, and what else is known about the columns. They are received while the
                  step before is computed, and passed on unchanged.
    sums          statistics or gradients, to which every rank adds. They follow one step behind:
                  the sum for the columns at hand arrives while this rank computes its own part.

    step k        send constants_k, sums_{k-1} to r + 1;  receive constants_{k+1}, sums_k from r - 1
                  meanwhile compute the part of the columns at hand
                  wait;  sums_k += part
    at the end    the sums at hand belong to rank r + 1: one more exchange returns all sums

Memory: two blocks of constants and three of sums. There is one exchange per step, which ends after
the step's computation, so that torch.distributed never has several to order.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor

from fastclip.distributed.agreement import Ranks
from fastclip.distributed.waiting import Exchange
from fastclip.ops.dispatch import Call
from fastclip.ops.pair_ids import SideIds, interval_of
from fastclip.rectangle import BOTH, MAIN_DIAGONAL, Diagonal, Rectangle, Sides

Tensors = tuple[Tensor, ...]


def walk_ring(
    constants: Tensors,  # of own columns, (B_r, ...) each
    work: Callable[[int, Tensors], Tensors],
    add: Callable[[Tensors, Tensors], Tensors],
    ranks: Ranks,
) -> Tensors:
    """Return the complete sums of own columns.

    Args:
        work: called with the owner of the columns at hand and its constants; returns this rank's
            part of their sums, (B_owner, ...) each, or () if nothing is summed.
        add: adds two parts of the same sums.
    """
    W, rank = ranks.world_size, ranks.rank
    sums: Tensors = ()
    for step in range(W):
        owner = (rank - step) % W
        sent = constants if step < W - 1 else ()
        sizes = [ranks.sizes[(owner - 1) % W]] * len(sent) + [ranks.sizes[owner]] * len(sums)
        with _passed_on(sent + sums, sizes, ranks) as received:
            part = work(owner, constants)
        constants, sums = received[: len(sent)], received[len(sent) :]
        sums = part if step == 0 else add(sums, part)
    with _passed_on(sums, [ranks.own_size] * len(sums), ranks) as received:
        pass
    return received


@contextmanager
def _passed_on(tensors: Tensors, sizes: list[int], ranks: Ranks) -> Iterator[Tensors]:
    """Send tensors to the next rank; by the end, as many of `sizes` rows have been received."""
    W, group = ranks.world_size, ranks.group
    pairs = zip(tensors, sizes, strict=True)
    received = tuple(x.new_empty((size, *x.shape[1:])) for x, size in pairs)
    operations = []
    for tag, (x, y) in enumerate(zip(tensors, received, strict=True)):
        after, before = (ranks.rank + 1) % W, (ranks.rank - 1) % W
        # Nothing is sent for a rank without columns.
        if x.numel() > 0:
            sent = x.contiguous()
            operations.append(dist.P2POp(dist.isend, sent, group=group, group_peer=after, tag=tag))
        if y.numel() > 0:
            operations.append(dist.P2POp(dist.irecv, y, group=group, group_peer=before, tag=tag))
    with Exchange(group):
        requests = dist.batch_isend_irecv(operations) if operations else []
    yield received
    with Exchange(group):
        for request in requests:
            request.wait()


def add_each(a: Tensors, b: Tensors) -> Tensors:
    return tuple(x + y for x, y in zip(a, b, strict=True))


class Visits(NamedTuple):
    """The values that are the same at every visit.

    ranks: the ranks; their sizes count columns.
    ids: the ids of own rows and columns.
    positives: the main diagonal, or None if no row has a pair.
    sides: the sides whose statistics are wanted.
    """

    ranks: Ranks
    normalize: bool
    call: Call
    ids: SideIds | None = None
    positives: Diagonal | None = MAIN_DIAGONAL
    sides: Sides = BOTH

    @property
    def constants(self) -> Tensors:
        """The tensors that own columns take along, besides their features."""
        return () if self.ids is None else (self.ids.cols,)

    def rectangle(
        self, owner: int, rows: Tensor, cols: Tensor, logit_scale: Tensor, constants: Tensors
    ) -> Rectangle:
        """Return the rectangle of own rows and the columns of `owner`; others' have no pairs."""
        positives = self.positives if owner == self.ranks.rank else None
        excluded = None if self.ids is None else interval_of(self.ids.rows, *constants)
        return Rectangle(rows, cols, logit_scale, positives, excluded, self.normalize, self.sides)
