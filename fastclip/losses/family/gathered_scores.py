"""The scores of a loss over several processes, each of which holds all columns at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastclip.distributed import gather
from fastclip.distributed.exchange import gather_rows
from fastclip.losses.family.scores import both_sides, in_order_of
from fastclip.losses.family.scores_of_ranks import ScoresOfRanks
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import plan
from fastclip.ops.merge import Statistics, merge
from fastclip.ops.side_ids import SideIds
from fastclip.rectangle import ROWS


@dataclass(frozen=True)
class GatheredScores(ScoresOfRanks):
    """Scores of the schedule "gather": O(N D) memory."""

    _softmax_statistics = staticmethod(gather.softmax_statistics)

    @torch.compiler.disable
    def of_rows(
        self, rows: Tensor, cols: Tensor, paired: bool = True, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics]:
        if paired:
            return self._of_own_rows(rows, cols, ids)
        owners = self._owners_of(cols)
        if ids is not None:
            own = ids.cols.to(cols.device)
            ids = SideIds(ids.rows.to(cols.device), gather_rows(own, owners))
        return self._of_rows(rows, gather_rows(cols, owners), False, ids)

    def of_itself(self, features: Tensor, ids: Tensor | None = None) -> Statistics:
        return self.of_rows(features, features, ids=both_sides(ids))[1]

    def of_columns(self, rows: Tensor) -> Tensor:
        return self.of_everyone(rows)

    def _of_own_rows(
        self, rows: Tensor, cols: Tensor, ids: SideIds | None
    ) -> tuple[Tensor, Statistics]:
        """Compute scores of pairs; if there are ids, in one rectangle per owner of columns."""
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
