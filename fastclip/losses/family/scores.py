"""Sums of exponentials of scores, which every loss of the family is composed of.

    score(x, y) = logit_scale <x, y>, of unit vectors if `normalize`

A `Statistics` is a pair of shift and total, whose log-sum-exp is shift + log(total): totals are
differentiable, (-inf, 1) stands for no scores, and `merge` makes one of several. Scores of pairs
are no part of it: they are computed by themselves, and a loss puts them where they belong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.normalization import prepared_rows
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.dispatch import plan
from fastclip.ops.merge import Statistics, merge
from fastclip.rectangle import BOTH, MAIN_DIAGONAL, ROWS, Diagonal, Rectangle


@dataclass(frozen=True)
class Scores:
    """How the scores of a loss are computed, by a process of its own.

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
        """Where the rows of this process begin among those of all."""
        return 0

    def of_rows(self, rows: Tensor, cols: Tensor, paired: bool = True) -> tuple[Tensor, Statistics]:
        """Each row's score with its own column, and the statistics of its scores with all others.

        Args:
            rows: (M, D).
            cols: (N, D); row i's own is column i.
            paired: False if no row has a column of its own: then the first result is 0, and the
                statistics are of all columns.
        """
        return self._of_rows(rows, cols, MAIN_DIAGONAL if paired else None)

    def of_shared(self, rows: Tensor, cols: Tensor) -> Statistics:
        """The statistics of each row's scores with columns that all processes have alike."""
        return self._of_rows(rows, cols, None)[1]

    def of_both(self, rows: Tensor, cols: Tensor) -> tuple[Tensor, Statistics, Statistics]:
        """The pairs' scores (B,), and the statistics of all others: of rows, then of columns."""
        rectangle = self._rectangle(rows, cols, MAIN_DIAGONAL)
        positive, shift, total = self._statistics(rectangle)
        (row_shift, col_shift), (row_total, col_total) = shift.chunk(2), total.chunk(2)
        return positive, (row_shift, row_total), (col_shift, col_total)

    def of_itself(self, features: Tensor) -> Statistics:
        """The statistics of each row's scores with all rows but itself.

        The matrix of scores is symmetric, and so the gradient of the rows' sums with regard to the
        columns is that of the columns' sums with regard to the rows. One product gives both: the
        columns are constants, and the sums the mean of rows' and columns', which are equal.
        """
        constant = features.detach()
        doubled = features + (features - constant)  # in value the features, in gradient twice
        rectangle = self._rectangle(doubled, constant, MAIN_DIAGONAL)
        _, shift, total = self._statistics(rectangle)
        halves = zip(shift.chunk(2), (total / 2).chunk(2), strict=True)
        return merge(list(halves))

    def of_pairs(self, rows: Tensor, cols: Tensor) -> Tensor:
        """The score of each row with its own column, (B,), without any other."""
        return self.logit_scale * (self.prepared(rows) * self.prepared(cols)).sum(1)

    def prepared(self, features: Tensor) -> Tensor:
        """The features as they are multiplied: unit rows if `normalize`, float32 or float64."""
        return prepared_rows(features, self.normalize)

    def check_negatives(self, features: Tensor) -> int:
        """How many rows the batch of all processes has; ValueError if it is one only."""
        num = self._num_rows(features)
        if num < 2:
            raise ValueError(
                "one pair alone has no negatives, and no loss whose denominator they are: "
                "B must be at least 2"
            )
        return num

    def check_same(self, options: dict[str, float]) -> None:
        """Raise ValueError if another process was given another of these named numbers."""

    def _num_rows(self, features: Tensor) -> int:
        return len(features)

    def of_everyone(self, rows: Tensor) -> Tensor:
        """`rows` (B, ...) of all processes, (N, ...)."""
        return rows

    def reduce(self, losses: Tensor, reduction: str, counts: Tensor | None = None) -> Tensor:
        """The losses of rows (M,), or their sum or mean; those that do not count are 0.

        Args:
            counts: (M,) bool, which rows the mean is over; None is all. The mean over none is 0.
        """
        if reduction == "none":
            return losses
        if reduction == "sum":
            return losses.sum()
        return losses.mean() if counts is None else losses.sum() / counts.sum().clamp(min=1)

    def _of_rows(
        self, rows: Tensor, cols: Tensor, positives: Diagonal | None
    ) -> tuple[Tensor, Statistics]:
        rectangle = self._rectangle(rows, cols, positives)._replace(sides=ROWS)
        positive, shift, total = self._statistics(rectangle)
        return positive, (shift, total)

    def _rectangle(self, rows: Tensor, cols: Tensor, positives: Diagonal | None) -> Rectangle:
        return Rectangle(rows, cols, self.logit_scale, positives, None, self.normalize, BOTH)

    def _statistics(self, rectangle: Rectangle) -> tuple[Tensor, Tensor, Tensor]:
        call = plan("contrastive_lse", self.backend, rectangle, self.workspace)
        return contrastive_lse(rectangle, call)[:3]


def nothing(like: Tensor) -> Statistics:
    """The statistics of no scores, for each of `like` (M,)."""
    return torch.full_like(like, float("-inf")), torch.ones_like(like)


def single(score: Tensor) -> Statistics:
    """The statistics of one score per row, (M,)."""
    shift = score.detach()
    return shift, (score - shift).exp()


def log_sum_exp(parts: Sequence[Statistics]) -> Tensor:
    """Of all scores of the parts, (M,); -inf where there are none."""
    shift, total = merge(parts)
    return shift + total.log()


def cross_entropy_of(positive: Tensor, parts: Sequence[Statistics], times: float = 1.0) -> Tensor:
    """log(times + sum of exp(score - positive) over the parts' scores), (M,).

    With `times` 1 it is -log of the softmax's probability of the positive. Nothing cancels: a model
    that fits keeps the relative accuracy of its loss. A row without other scores has log(times).
    """
    shift, total = merge(parts)
    return log_sum_with_one(shift - positive + total.log(), times)


def log_sum_with_one(x: Tensor, times: float) -> Tensor:
    """log(times + exp(x)); beyond 40, e^-40 is below the rounding of a double."""
    if times == 1.0:
        return F.softplus(x, beta=1.0, threshold=40.0)
    log_times = x.new_full((), times).log()
    return log_times + F.softplus(x - log_times, beta=1.0, threshold=40.0)
