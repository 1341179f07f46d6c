"""The scores of a loss over several processes, which hold one process's columns at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastclip.distributed import ring_contrastive_lse
from fastclip.distributed.agreement import Ranks
from fastclip.distributed.ring_class_sums import class_sums
from fastclip.distributed.sides import texts_are_rows
from fastclip.losses.family.scores import in_order_of
from fastclip.losses.family.scores_of_ranks import ScoresOfRanks
from fastclip.ops.merge import Statistics
from fastclip.ops.side_ids import SideIds
from fastclip.rectangle import ROWS


@dataclass(frozen=True)
class RingScores(ScoresOfRanks):
    """Scores of the schedule "ring": O(max B_r D) memory, and no logits are kept.

    The statistics of a set with itself come from `Scores.of_itself`, as on one process: because the
    columns are constants there, statistics travel between processes, but no gradients of features.
    """

    _softmax_statistics = staticmethod(ring_contrastive_lse.softmax_statistics)

    @property
    def visitors(self) -> Ranks:
        return self.ranks

    @torch.compiler.disable
    def of_rows(
        self, rows: Tensor, cols: Tensor, paired: bool = True, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics]:
        rectangle = self._square(rows, cols)._replace(sides=ROWS)
        owners = self.ranks
        if not paired:
            rectangle = rectangle._replace(positives=None)
            owners = self._owners_of(cols)
        here = in_order_of(rectangle, ids)
        positive, *of_rows = ring_contrastive_lse.statistics_of_visits(
            here.rectangle, here.ids, owners, self.backend, self.workspace
        )
        return here.restored(positive), tuple(map(here.restored, of_rows))

    def of_both(
        self, rows: Tensor, cols: Tensor, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics, Statistics]:
        if not texts_are_rows(self._square(rows, cols)):
            return super().of_both(rows, cols, ids)
        swapped = None if ids is None else SideIds(ids.cols, ids.rows)
        positive, of_cols, of_rows = super().of_both(cols, rows, swapped)
        return positive, of_rows, of_cols

    @torch.compiler.disable
    def of_classes(self, labels: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        return class_sums(labels, features, self.ranks)
