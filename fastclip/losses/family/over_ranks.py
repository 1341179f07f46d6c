"""The scores of a loss over the batches of several processes.

Each process has its own rows against the columns of all. As `fastclip/distributed/__init__.py`
promises, every process returns the same loss, and the mean over processes of the gradients, which
DistributedDataParallel takes, is the gradient of it.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed import gather
from fastclip.distributed.agreement import Ranks, agree
from fastclip.distributed.exchange import (
    gather_rows,
    of_all_ranks,
    send_to_owners,
    sum_over_ranks,
)
from fastclip.losses.family.scores import Scores, both_sides, in_order_of
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import plan, resolve_backend
from fastclip.ops.merge import Statistics, merge
from fastclip.ops.pair_ids import PairIds
from fastclip.ops.side_ids import SideIds
from fastclip.rectangle import ROWS, Rectangle


# Collectives have no place in a graph of torch.compile: it breaks here, and in each method.
@torch.compiler.disable
def scores_over_ranks(
    loss: str,
    features: tuple[Tensor, Tensor],
    given_scale: float | Tensor,
    logit_scale: Tensor,
    normalize: bool,
    backend: str,
    workspace: int | None,
    group: ProcessGroup,
    ids: SideIds | None,
) -> Scores:
    """The scores of a loss that all processes of `group` call; each is told who takes part.

    Raises:
        ValueError: on every process, if they differ in anything but their number of rows.
    """
    # An objection is raised before the other ranks wait for this one.
    chosen = resolve_backend(backend, features[0], leaves_out=ids is not None)
    own = Rectangle(*features, logit_scale, None, normalize=normalize)
    ranks = agree(
        group, loss, "gather", own, given_scale, 0.0,
        chosen=chosen if backend == "auto" else None,
        ids=None if ids is None else PairIds(*ids),
    )  # fmt: skip
    return ScoresOverRanks(logit_scale, normalize, ranks.backend or chosen, workspace, ranks)


@dataclass(frozen=True)
class ScoresOverRanks(Scores):
    """`Scores` whose columns are those of all processes, and whose means are over all rows."""

    ranks: Ranks

    @property
    def start(self) -> int:
        return self.ranks.start

    @torch.compiler.disable
    def of_rows(
        self, rows: Tensor, cols: Tensor, paired: bool = True, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics]:
        if paired:
            return self._of_own_rows(rows, cols, ids)
        sizes = of_all_ranks(torch.tensor(len(cols), device=cols.device), self.ranks).tolist()
        of_cols = dataclasses.replace(self.ranks, sizes=tuple(sizes))
        if ids is not None:
            own = ids.cols.to(cols.device)
            ids = SideIds(ids.rows.to(cols.device), gather_rows(own, of_cols))
        return self._of_rows(rows, gather_rows(cols, of_cols), False, ids)

    def _of_own_rows(
        self, rows: Tensor, cols: Tensor, ids: SideIds | None
    ) -> tuple[Tensor, Statistics]:
        """Of pairs: where there are ids, a rectangle for each owner of columns."""
        here = in_order_of(self._square(rows, cols)._replace(sides=ROWS), ids)
        whole, parts = gather.with_all_columns(here.rectangle, here.ids, self.ranks)
        call = plan("contrastive_lse", self.backend, whole, self.workspace)
        positives, shifts, totals = zip(
            *(contrastive_lse(part, call)[:3] for part in parts), strict=True
        )
        statistics = list(zip(shifts, totals, strict=True))
        of_rows = statistics[0] if len(parts) == 1 else merge(statistics)
        # A row's pair is in one part, and 0 in all others.
        return here.restored(sum(positives)), tuple(map(here.restored, of_rows))

    @torch.compiler.disable
    def of_both(
        self, rows: Tensor, cols: Tensor, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics, Statistics]:
        here = in_order_of(self._square(rows, cols), ids)
        positive, *statistics = gather.softmax_statistics(
            here.rectangle, here.ids, self.ranks, self.backend, self.workspace, False
        )
        shifts, totals = map(here.restored, statistics)
        return here.restored(positive), *zip(shifts, totals, strict=True)

    def of_itself(self, features: Tensor, ids: Tensor | None = None) -> Statistics:
        return self.of_rows(features, features, ids=both_sides(ids))[1]

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

    def _num_rows(self, features: Tensor) -> int:
        return self.ranks.num_pairs

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
