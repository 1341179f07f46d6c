"""The scores of a loss over the batches of several processes.

Each process computes its own rows against the columns of all processes. As
`fastclip/distributed/__init__.py` promises, every process returns the same loss, and the mean of
the processes' gradients, which DistributedDataParallel takes, is the gradient of that loss.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastclip.distributed.agreement import Ranks
from fastclip.distributed.exchange import gather_rows, of_all_ranks, send_to_owners, sum_over_ranks
from fastclip.losses.family.scores import Scores, in_order_of
from fastclip.ops.merge import Statistics
from fastclip.ops.side_ids import SideIds


# Collectives cannot be part of a graph of torch.compile: the graph breaks in each method.
@dataclass(frozen=True)
class ScoresOfRanks(Scores):
    """`Scores` over the columns of all processes, with means over all rows.

    A subclass is a schedule: the way in which rows meet the columns of other processes.
    """

    ranks: Ranks
    # The statistics of a square of own pairs, over the columns of all processes.
    _softmax_statistics: ClassVar[Callable[..., tuple[Tensor, Tensor, Tensor]]]

    @property
    def start(self) -> int:
        return self.ranks.start

    @torch.compiler.disable
    def of_both(
        self, rows: Tensor, cols: Tensor, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics, Statistics]:
        here = in_order_of(self._square(rows, cols), ids)
        positive, *statistics = self._softmax_statistics(
            here.rectangle, here.ids, self.ranks, self.backend, self.workspace, False
        )
        shifts, totals = map(here.restored, statistics)
        return here.restored(positive), *zip(shifts, totals, strict=True)

    @torch.compiler.disable
    def check_same(self, options: dict[str, float]) -> None:
        own = torch.tensor(
            list(options.values()), dtype=torch.float64, device=self.logit_scale.device
        )
        columns = of_all_ranks(own, self.ranks).T.tolist()
        for name, column in zip(options, columns, strict=True):
            if len(set(column)) > 1:
                raise ValueError(
                    f"{name} must be the same on ranks 0 to {len(column) - 1}; "
                    "every rank must make the same calls of the loss"
                )

    @torch.compiler.disable
    def of_everyone(self, rows: Tensor) -> Tensor:
        return gather_rows(rows, self.ranks)

    @torch.compiler.disable
    def told(self, rows: Tensor, by: Tensor) -> Tensor:
        received = send_to_owners(rows, self.ranks)  # (W, B, ...)
        return received[by, torch.arange(len(by), device=by.device)]

    @torch.compiler.disable
    def reduce(self, losses: Tensor, reduction: str, counts: Tensor | None = None) -> Tensor:
        num = torch.full_like(losses, 1.0) if counts is None else counts
        total = sum_over_ranks(losses.sum(dtype=torch.float64), self.ranks)
        num = of_all_ranks(num.sum(dtype=torch.float64), self.ranks).sum().clamp(min=1)
        return (total / num).to(losses.dtype)

    def _num_rows(self, features: Tensor) -> int:
        return self.ranks.num_pairs

    def _owners_of(self, cols: Tensor) -> Ranks:
        """Return the processes, with the number of these columns that each of them has."""
        sizes = of_all_ranks(torch.tensor(len(cols), device=cols.device), self.ranks).tolist()
        return dataclasses.replace(self.ranks, sizes=tuple(sizes))
