"""Both primitives in plain PyTorch, a chunk of rows at a time: any device, O(chunk * N) memory.

Math: `reference.py`. Forward: each chunk of C rows has its row statistics at once; column
statistics merge over chunks,
    max' = max(max, chunk max);  sum' = sum exp(max - max') + chunk sum exp(chunk max - max')
Backward: recompute the chunk's logits, turn them into G in place, two products with it.

Cost: 8 M N D FLOPs forward + backward; extra memory three C x N buffers within `workspace` bytes
(one N x D accumulator more for 16-bit inputs).
Numerics: logits, statistics and accumulators in float32 (float64 for float64 inputs).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.backends.kept_logits import NOTHING_KEPT, KeptLayout, no_kept_rows
from fastclip.backends.normalization import (
    compute_dtype,
    prepared_rows,
    prepared_rows_backward,
)
from fastclip.rectangle import Rectangle, Sides

DEFAULT_WORKSPACE = 64 << 20
MIN_ROWS = 16  # of a chunk, however small the workspace
BUFFERS = 3  # logits, one exponential, their product

# Entries of G below this fraction of its largest weight do not reach a float32 sum of any length
# met in practice, and on a CPU subnormal factors make a product up to 70 times slower.
NEGLIGIBLE = 2.0**-100


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    return None


def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    return NOTHING_KEPT


def contrastive_lse(
    rectangle: Rectangle, workspace: int | None, kept_rows: int, needs_maximum: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cols = prepared_rows(rectangle.cols, rectangle.normalize)
    M, N = rectangle.lengths
    positive, row_max, row_sum = (cols.new_zeros(size) for size in (len(rectangle.rows), M, M))
    col_max, col_sum = cols.new_full((N,), float("-inf")), cols.new_zeros(N)
    for chunk in _chunks(rectangle, workspace):
        logits = rectangle.logit_scale * (_rows(rectangle, chunk) @ cols.T)
        pairs, paired = _pairs(logits, chunk, rectangle)
        positive[paired] = pairs
        pairs.fill_(float("-inf"))
        if rectangle.sides.rows:
            row_max[chunk] = logits.amax(1)
            row_sum[chunk] = (logits - _finite(row_max[chunk])[:, None]).exp_().sum(1)
        if rectangle.sides.cols:
            merged = torch.maximum(col_max, logits.amax(0))
            shift = _finite(merged)
            col_sum *= torch.exp(col_max - shift)
            col_sum += logits.sub_(shift).exp_().sum(0)
            col_max = merged
    maximum, total = torch.cat((row_max, col_max)), torch.cat((row_sum, col_sum))
    total.masked_fill_(total == 0, 1.0)
    return positive, maximum, total, no_kept_rows(cols)


def contrastive_lse_backward(
    rectangle: Rectangle,
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (sum of lengths,)
    shift: Tensor,  # (sum of lengths,)
    kept: Tensor,  # (0, 0)
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    cols = prepared_rows(rectangle.cols, rectangle.normalize)
    row_shift, col_shift = _finite(shift).split(rectangle.lengths)
    grad_row_sum, grad_col_sum = grad_total.split(rectangle.lengths)
    accumulate = _GradientSums(rectangle, cols, wants)
    largest = grad_positive.abs().max()
    if len(grad_total) > 0:
        largest = torch.maximum(largest, grad_total.abs().max())
    for chunk in _chunks(rectangle, workspace):
        rows = _rows(rectangle, chunk)
        logits = rectangle.logit_scale * (rows @ cols.T)
        if rectangle.sides.rows:
            shifted = logits - row_shift[chunk, None]
            grad_logits = shifted.exp_().mul_(grad_row_sum[chunk, None])
        else:
            grad_logits = torch.zeros_like(logits)
        if rectangle.sides.cols:
            grad_logits += logits.sub_(col_shift).exp_().mul_(grad_col_sum)
        pairs, paired = _pairs(grad_logits, chunk, rectangle)
        pairs.copy_(grad_positive[paired])
        accumulate(chunk, rows, _without_negligible(grad_logits, largest))
    return accumulate.finish()


def siglip_sum(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    cols = prepared_rows(rectangle.cols, rectangle.normalize)
    row_loss = cols.new_empty(len(rectangle.rows))
    for chunk in _chunks(rectangle, workspace):
        logits = rectangle.logit_scale * (_rows(rectangle, chunk) @ cols.T) + logit_bias
        pairs, _ = _pairs(logits, chunk, rectangle)
        pairs.neg_()
        row_loss[chunk] = -F.logsigmoid(logits.neg_()).sum(1)
    return row_loss, no_kept_rows(cols)


def siglip_sum_backward(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    grad_row_loss: Tensor,  # (M,)
    kept: Tensor,  # (0, 0)
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cols = prepared_rows(rectangle.cols, rectangle.normalize)
    accumulate = _GradientSums(rectangle, cols, wants)
    grad_logit_bias = torch.zeros_like(rectangle.logit_scale, dtype=torch.float64)
    for chunk in _chunks(rectangle, workspace):
        rows = _rows(rectangle, chunk)
        logits = rectangle.logit_scale * (rows @ cols.T) + logit_bias
        pairs, _ = _pairs(logits, chunk, rectangle)
        pairs.neg_()
        grad_logits = _without_negligible(logits.sigmoid_())
        grad_logits.mul_(grad_row_loss[chunk, None])
        _pairs(grad_logits, chunk, rectangle)[0].neg_()
        grad_logit_bias += grad_logits.sum(dtype=torch.float64)
        accumulate(chunk, rows, grad_logits)
    return *accumulate.finish(), grad_logit_bias.to(cols.dtype)


class _GradientSums:
    """Turns chunks of G into d row, d col and d logit_scale, without an N x N anything."""

    def __init__(self, rectangle: Rectangle, cols: Tensor, wants: Sides) -> None:
        self.rectangle, self.cols = rectangle, cols
        self.grad_row = torch.empty_like(rectangle.rows) if wants.rows else None
        self.unscaled_col = torch.zeros_like(cols) if wants.cols else None
        self.grad_logit_scale = torch.zeros_like(rectangle.logit_scale, dtype=torch.float64)

    def __call__(self, chunk: slice, rows: Tensor, grad_logits: Tensor) -> None:
        if self.unscaled_col is not None:
            self.unscaled_col.addmm_(grad_logits.T, rows)
        unscaled_row = grad_logits @ self.cols
        self.grad_logit_scale += (unscaled_row * rows).sum(dtype=torch.float64)
        if self.grad_row is not None:
            features = self.rectangle.rows[chunk]
            self.grad_row[chunk] = self._feature_gradient(unscaled_row, features)

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        row_features, col_features = self.rectangle[:2]
        grad_row, grad_col = self.grad_row, row_features.new_empty(0)
        if grad_row is None:
            grad_row = row_features.new_empty(0)
        if self.unscaled_col is not None:
            grad_col = self._feature_gradient(self.unscaled_col, col_features)
        return grad_row, grad_col, self.grad_logit_scale.to(self.cols.dtype)

    def _feature_gradient(self, unscaled: Tensor, features: Tensor) -> Tensor:
        grad = unscaled.mul_(self.rectangle.logit_scale)
        return prepared_rows_backward(grad, features, self.rectangle.normalize)


def _chunks(rectangle: Rectangle, workspace: int | None) -> Iterator[slice]:
    M, N = len(rectangle.rows), len(rectangle.cols)
    itemsize = compute_dtype(rectangle.rows.dtype).itemsize
    available = DEFAULT_WORKSPACE if workspace is None else workspace
    num_rows = min(M, max(MIN_ROWS, available // (BUFFERS * N * itemsize)))
    return (slice(start, min(start + num_rows, M)) for start in range(0, M, num_rows))


def _rows(rectangle: Rectangle, chunk: slice) -> Tensor:
    """The chunk's rows as they are multiplied."""
    return prepared_rows(rectangle.rows[chunk], rectangle.normalize)


def _pairs(logits: Tensor, chunk: slice, rectangle: Rectangle) -> tuple[Tensor, slice]:
    """The chunk's positive entries, as a view, and the rows of the rectangle they belong to."""
    offset = rectangle.pair_offset + chunk.start
    pairs = logits.diagonal(offset)
    first = chunk.start + max(0, -offset)
    return pairs, slice(first, first + len(pairs))


def _finite(maximum: Tensor) -> Tensor:
    """A finite shift where there is no negative: exp(-inf - 0) is 0, exp(-inf + inf) is nan."""
    return maximum.masked_fill(maximum == float("-inf"), 0.0)


def _without_negligible(values: Tensor, largest: Tensor | None = None) -> Tensor:
    """`values` with those below NEGLIGIBLE times `largest` (or 1) set to zero, on a CPU."""
    if values.device.type != "cpu":
        return values
    return F.hardshrink(values, NEGLIGIBLE * (1.0 if largest is None else largest.item()))
