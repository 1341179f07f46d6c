"""Sums over all rows with the same label, without a mask."""

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
        """Return the sum of each class's columns, (N, D), at the position that `number` gives.

        Args:
            labels: (N,), the labels of the columns, in their order.
            features: (N, D), the features of the columns.
        """
        return torch.zeros_like(features).index_add(0, self.number(labels), features)

    def number(self, labels: Tensor) -> Tensor:
        """Return the number of each label's class, (M,) int64 below N, for labels of columns."""
        return torch.searchsorted(self._labels, labels.contiguous())

    def count(self, labels: Tensor) -> Tensor:
        """Return how many columns have each label, (M,) int64."""
        behind = torch.searchsorted(self._labels, labels.contiguous(), right=True)
        return behind - self.number(labels)

    def of_each(self, sums: Tensor, labels: Tensor) -> Tensor:
        """Select each label's sum, (M, D); zeros for a label that no column has.

        Args:
            sums: (N, D), the result of `self.sums`.
            labels: (M,), any values.
        """
        number = self.number(labels).clamp(max=len(self._labels) - 1)
        is_there = self.count(labels) > 0
        return torch.where(is_there[:, None], sums.index_select(0, number), 0.0)
