"""Sums over the rows of a class, without a mask of which rows belong together."""

import torch
from torch import Tensor


class Classes:
    """The classes of N labelled columns.

    Args:
        labels: (N,) int64, any values. Nothing waits for the device.
    """

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels.sort().values

    def sums(self, labels: Tensor, features: Tensor) -> Tensor:
        """The sum of the columns of each label, (N, D), where `number` says.

        Args:
            labels: (N,), of the columns, in their order.
            features: (N, D), of the columns.
        """
        return torch.zeros_like(features).index_add(0, self.number(labels), features)

    def number(self, labels: Tensor) -> Tensor:
        """The number of each label's class, (M,) int64 below N; of a label that is there."""
        return torch.searchsorted(self._labels, labels.contiguous())

    def count(self, labels: Tensor) -> Tensor:
        """How many columns have each label, (M,) int64."""
        behind = torch.searchsorted(self._labels, labels.contiguous(), right=True)
        return behind - self.number(labels)

    def of_each(self, sums: Tensor, labels: Tensor) -> Tensor:
        """Out of `sums`, that of each label, (M, D); zeros for a label that no column has.

        Args:
            sums: (N, D), what `self.sums` returned.
            labels: (M,), any values.
        """
        number = self.number(labels).clamp(max=len(self._labels) - 1)
        is_there = self.count(labels) > 0
        return torch.where(is_there[:, None], sums.index_select(0, number), 0.0)
