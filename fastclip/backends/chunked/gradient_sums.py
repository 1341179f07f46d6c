"""Compute the gradients of rows, columns and logit_scale from blocks of G."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fastclip.backends.chunked.narrow import Narrow
from fastclip.backends.chunked.wide import Wide
from fastclip.backends.normalization import compute_dtype, prepared_rows_backward
from fastclip.rectangle import Rectangle, Sides


class GradientSums:
    """Adds up the products of blocks of G with the features of the other side.

    with sums.of_rows(chunk) as rows:      the chunk's rows as they are multiplied
        sums.add(panel, G)                 for every panel, in order
    grad_row, grad_col, grad_logit_scale = sums.finish()
    """

    def __init__(self, rectangle: Rectangle, arithmetic: Wide | Narrow, wants: Sides) -> None:
        self.rectangle, self.arithmetic = rectangle, arithmetic
        self.dtype = compute_dtype(rectangle.rows.dtype)
        self.cols = arithmetic.cols(rectangle.cols)  # as they are multiplied
        self.grad_row = torch.empty_like(rectangle.rows) if wants.rows else None
        self.sum_col = torch.zeros_like(self.cols, dtype=self.dtype) if wants.cols else None
        self.grad_logit_scale = torch.zeros_like(rectangle.logit_scale, dtype=torch.float64)

    @contextmanager
    def of_rows(self, chunk: slice) -> Iterator[Tensor]:
        features = self.rectangle.rows[chunk]
        self.rows, self.sum_row = self.arithmetic.rows(features), None
        yield self.rows
        self.grad_logit_scale += (self.sum_row * self.rows).sum(dtype=torch.float64)
        if self.grad_row is not None:
            factor = self.arithmetic.row_factor
            self.grad_row[chunk] = self._feature_gradient(self.sum_row, factor, features)

    def add(self, panel: slice, grad_logits: Tensor) -> None:
        accumulate = self.arithmetic.accumulate
        if self.sum_col is not None:
            accumulate(self.sum_col[panel], grad_logits.T, self.rows)
        self.sum_row = accumulate(self.sum_row, grad_logits, self.cols[panel])

    def add_lost(self, lost: Tensor | None, products: Tensor) -> None:
        """Add to the scale's gradient what rounding took from entries of G (k,).

        Args:
            lost: what the rounded entries lack, (k,), or None if nothing is lost.
            products: the products at these entries, (k,).
        """
        if lost is not None:
            self.grad_logit_scale += (lost * products).sum(dtype=torch.float64)

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        row_features, col_features = self.rectangle[:2]
        grad_row, grad_col = self.grad_row, row_features.new_empty(0)
        if grad_row is None:
            grad_row = row_features.new_empty(0)
        if self.sum_col is not None:
            factor = self.arithmetic.col_factor
            grad_col = self._feature_gradient(self.sum_col, factor, col_features)
        grad_logit_scale = self.arithmetic.scale_factor * self.grad_logit_scale
        return grad_row, grad_col, grad_logit_scale.to(self.dtype)

    def _feature_gradient(self, product: Tensor, factor: Tensor, features: Tensor) -> Tensor:
        grad = product.mul_(factor)
        return prepared_rows_backward(grad, features, self.rectangle.normalize)
