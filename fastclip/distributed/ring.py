"""The walk around the ring: every rank's columns visit every rank, and a sum comes home with them.

At step k, rank r works on the columns of rank r - k. What travels:

    constants     features, and what else is known of the columns. Received while the step before
                  is computed, and passed on unchanged.
    sums          what every rank adds to: statistics, gradients. They follow one step behind: the
                  sum for the columns at hand arrives while this rank computes its own part of it.

    step k        send constants_k, sums_{k-1} to r + 1;  receive constants_{k+1}, sums_k from r - 1
                  meanwhile compute the part of the columns at hand
                  wait;  sums_k += part
    at the end    the sums at hand are those of rank r + 1: one more exchange, and all are at home

Memory: two blocks of constants and three of sums. One exchange per step, waited for after its
computation, so that the engine needs no order among several.
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
    """Returns the sums of own columns, complete.

    Args:
        work: called with the owner of the columns at hand and its constants; returns this rank's
            part of their sums, (B_owner, ...) each, or () where nothing is summed.
        add: two parts of the same sums to one.
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
    """Send to the next rank; receive as many from the one before, of `sizes` rows, by the end."""
    W, group = ranks.world_size, ranks.group
    pairs = zip(tensors, sizes, strict=True)
    received = tuple(x.new_empty((size, *x.shape[1:])) for x, size in pairs)
    operations = []
    for tag, (x, y) in enumerate(zip(tensors, received, strict=True)):
        after, before = (ranks.rank + 1) % W, (ranks.rank - 1) % W
        # Of a rank without columns nothing travels.
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
    """What is the same at every visit.

    ranks: their sizes are those of columns.
    ids: of own rows and columns.
    positives: the main diagonal, or None if no row has a column of its own.
    sides: whose statistics are wanted.
    """

    ranks: Ranks
    normalize: bool
    call: Call
    ids: SideIds | None = None
    positives: Diagonal | None = MAIN_DIAGONAL
    sides: Sides = BOTH

    @property
    def constants(self) -> Tensors:
        """What own columns take along beside their features."""
        return () if self.ids is None else (self.ids.cols,)

    def rectangle(
        self, owner: int, rows: Tensor, cols: Tensor, logit_scale: Tensor, constants: Tensors
    ) -> Rectangle:
        """Own rows and the columns of `owner`: only one's own have pairs here."""
        positives = self.positives if owner == self.ranks.rank else None
        excluded = None if self.ids is None else interval_of(self.ids.rows, *constants)
        return Rectangle(rows, cols, logit_scale, positives, excluded, self.normalize, self.sides)
