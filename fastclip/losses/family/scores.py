"""Sums of exponentials of scores, which every loss of the family is composed of.

    score(x, y) = logit_scale <x, y>, of unit vectors if `normalize`

A `Statistics` is a pair of shift and total, whose log-sum-exp is shift + log(total): totals are
differentiable, (-inf, 1) stands for no scores, and `merge` makes one of several. It does not
include the scores of pairs, which are computed separately, for each loss to place. With `ids` it
does not include the scores of rows and columns with one id either, which are not negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.normalization import prepared_rows
from fastclip.ops.classes import Classes
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import plan
from fastclip.ops.merge import Statistics, merge
from fastclip.ops.pair_ids import InOrder, in_order, in_order_apart
from fastclip.ops.side_ids import SideIds
from fastclip.rectangle import BOTH, MAIN_DIAGONAL, ROWS, Rectangle

if TYPE_CHECKING:
    from fastclip.distributed.agreement import Ranks


@dataclass(frozen=True)
class Scores:
    """Computes the scores of a loss on one process.

    Args:
        logit_scale: (), float32, or float64 for float64 features.
        normalize: whether features are divided by their norms.
        backend, workspace: see `fastclip.clip_loss`.
    """

    logit_scale: Tensor
    normalize: bool
    backend: str
    workspace: int | None

    @property
    def start(self) -> int:
        """Where the rows of this process begin among the rows of all processes."""
        return 0

    def of_rows(
        self, rows: Tensor, cols: Tensor, paired: bool = True, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics]:
        """Return each row's score with its own column, and the statistics of its other scores.

        Args:
            rows: (M, D).
            cols: (N, D); row i's own column is column i.
            paired: False if no row has a column of its own: then the first result is 0, and the
                statistics include all columns.
            ids: the ids of these rows and columns, on the features' device or on the CPU.
        """
        return self._of_rows(rows, cols, paired, ids)

    def of_shared(self, rows: Tensor, cols: Tensor, ids: SideIds | None = None) -> Statistics:
        """Return the statistics of each row's scores with columns that all processes share."""
        return self._of_rows(rows, cols, False, ids)[1]

    def of_both(
        self, rows: Tensor, cols: Tensor, ids: SideIds | None = None
    ) -> tuple[Tensor, Statistics, Statistics]:
        """Return the pairs' scores (B,), and the statistics of all others, by row and by column."""
        return self._of_square(in_order_of(self._square(rows, cols), ids))

    def of_itself(self, features: Tensor, ids: Tensor | None = None) -> Statistics:
        """Return the statistics of each row's scores with all rows but itself and rows of its id.

        The matrix of scores is symmetric, so the gradient of the rows' sums for the columns equals
        the gradient of the columns' sums for the rows. One product gives both: the columns are
        constants, and the result is the mean of the rows' sums and the columns' sums, which are
        equal.
        """
        constant = features.detach()
        doubled = features + (features - constant)  # in value the features, in gradient twice
        _, *sides = self.of_both(doubled, constant, both_sides(ids))
        return merge([(shift, total / 2) for shift, total in sides])

    def of_pairs(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Return only the score of each row with its own column, (B,)."""
        return self.logit_scale * (self.prepared(rows) * self.prepared(cols)).sum(1)

    def prepared(self, features: Tensor) -> Tensor:
        """Return the features as they are multiplied: unit rows if `normalize`, float32 or 64."""
        return prepared_rows(features, self.normalize)

    def check_negatives(self, features: Tensor) -> int:
        """Return the number of rows of all processes; ValueError if there is only one."""
        num = self._num_rows(features)
        if num < 2:
            raise ValueError(
                "one pair alone has no negatives, of which the denominator of this loss consists: "
                "B must be at least 2"
            )
        return num

    def check_same(self, options: dict[str, float]) -> None:
        """Raise ValueError if another process has another value of one of these named numbers."""

    def _num_rows(self, features: Tensor) -> int:
        return len(features)

    def of_everyone(self, rows: Tensor) -> Tensor:
        """Return the `rows` (B, ...) of all processes, (N, ...)."""
        return rows

    def told(self, rows: Tensor, by: Tensor) -> Tensor:
        """Return for each row of this process the value that one process has for it, (B, ...).

        Args:
            rows: (N, ...), the values of this process for the rows of all processes.
            by: (B,) int64, the rank whose value each row of this process gets.
        """
        return rows

    def of_columns(self, rows: Tensor) -> Tensor:
        """Return the `rows` of all columns held here at once: this process's, or everyone's."""
        return rows

    @property
    def visitors(self) -> "Ranks | None":
        """The processes whose columns come here one at a time; None if all are here at once."""
        return None

    def of_classes(self, labels: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """Return how many rows of all processes have each row's label, and the sums of such rows.

        Args:
            labels: (B,) int64, the labels of this process's rows.
            features: (B, D) each, for the same rows.

        Returns:
            The counts (B,) int64, then the sums (B, D) of each of `features`.
        """
        all_labels = self.of_everyone(labels)
        classes = Classes(all_labels)
        number = classes.number(labels)
        sums = (classes.sums(all_labels, self.of_everyone(x))[number] for x in features)
        return classes.count(labels), *sums

    def reduce(self, losses: Tensor, reduction: str, counts: Tensor | None = None) -> Tensor:
        """Return the losses of rows (M,), or their sum or mean; losses that do not count are 0.

        Args:
            counts: (M,) bool, which rows the mean is over; None is all. The mean over none is 0.
        """
        if reduction == "none":
            return losses
        if reduction == "sum":
            return losses.sum()
        return losses.mean() if counts is None else losses.sum() / counts.sum().clamp(min=1)

    def _of_rows(
        self, rows: Tensor, cols: Tensor, paired: bool, ids: SideIds | None
    ) -> tuple[Tensor, Statistics]:
        rectangle = self._square(rows, cols)._replace(sides=ROWS)
        if paired:
            here = in_order_of(rectangle, ids)
        else:
            here = in_order_of(rectangle._replace(positives=None), ids)
        positive, shift, total = map(here.restored, self._statistics(here.rectangle))
        return positive, (shift, total)

    def _of_square(self, here: InOrder) -> tuple[Tensor, Statistics, Statistics]:
        positive, *statistics = self._statistics(here.rectangle)
        shifts, totals = (map(here.restored, x.chunk(2)) for x in statistics)
        return here.restored(positive), *zip(shifts, totals, strict=True)

    def _square(self, rows: Tensor, cols: Tensor) -> Rectangle:
        return Rectangle(rows, cols, self.logit_scale, MAIN_DIAGONAL, None, self.normalize, BOTH)

    def _statistics(self, rectangle: Rectangle) -> tuple[Tensor, Tensor, Tensor]:
        call = plan("contrastive_lse", self.backend, rectangle, self.workspace)
        return contrastive_lse(rectangle, call)[:3]


def in_order_of(rectangle: Rectangle, ids: SideIds | None) -> InOrder:
    """Return the rectangle; with ids, without the scores of rows and columns with one id."""
    if ids is None:
        return InOrder(rectangle, None, None)
    return (in_order_apart if rectangle.positives is None else in_order)(rectangle, *ids)


def both_sides(ids: Tensor | None) -> SideIds | None:
    """Return the ids of a rectangle whose columns have the ids of its rows."""
    return None if ids is None else SideIds(ids, ids)


def nothing(like: Tensor) -> Statistics:
    """Return the statistics of no scores, for each entry of `like` (M,)."""
    return torch.full_like(like, float("-inf")), torch.ones_like(like)


def single(score: Tensor, left_out: Tensor | None = None) -> Statistics:
    """Return the statistics of one score per row, (M,), or of none where `left_out` is True."""
    shift = score.detach()
    total = (score - shift).exp()
    if left_out is None:
        return shift, total
    left_out = left_out.to(shift.device, non_blocking=True)
    return shift.masked_fill(left_out, float("-inf")), total.masked_fill(left_out, 1.0)


def log_sum_exp(parts: Sequence[Statistics]) -> Tensor:
    """Return the log-sum-exp of all scores of the parts, (M,); -inf where there are none."""
    shift, total = merge(parts)
    return shift + total.log()


def with_negatives(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Return losses with 0, without a gradient, where there are no negatives, and where there are.

    Args:
        losses: any shape; -inf where there are no negatives. A nan from bad features stays.
    """
    have_negatives = losses != float("-inf")
    return losses.where(have_negatives, losses.new_zeros(())), have_negatives


def cross_entropy_of(positive: Tensor, parts: Sequence[Statistics], times: float = 1.0) -> Tensor:
    """Return log(times + sum of exp(score - positive) over the parts' scores), (M,).

    With `times` 1 this is -log of the softmax's probability of the positive. Nothing cancels, so a
    small loss keeps its relative accuracy. A row without other scores has log(times).
    """
    shift, total = merge(parts)
    return log_sum_with_one(shift - positive + total.log(), times)


def log_sum_with_one(x: Tensor, times: float) -> Tensor:
    """Return log(times + exp(x)); beyond 40, e^-40 is below the rounding of a double."""
    if times == 1.0:
        return F.softplus(x, beta=1.0, threshold=40.0)
    log_times = x.new_full((), times).log()
    return log_times + F.softplus(x - log_times, beta=1.0, threshold=40.0)
