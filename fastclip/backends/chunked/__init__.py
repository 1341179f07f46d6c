"""Both primitives in plain PyTorch, one block of logits at a time: any device, no N x N memory.

Math: `reference.py`. Forward: the statistics of rows and of columns merge over blocks,
    max' = max(max, block's max);  sum' = sum exp(max - max') + block's sum exp(logit - max')
Backward: compute a block's products again, turn them into G, and form two products with it.

Files: `blocks.py` decides how large a block is, and `machine.py` describes the device that this and
the arithmetic depend on; `wide.py` and `narrow.py` are the arithmetic, with one interface;
`gradient_sums.py` has the products, and `left_out.py` the entries that an interval leaves out.

Cost: 8 M N D FLOPs forward + backward; extra memory three float32 blocks within `workspace` bytes,
by default 64 MiB, and 256 MiB on a GPU (16-bit features need one N x D accumulator more).
Numerics: float64 for float64 features, otherwise float32 logits, statistics and accumulators.
    CPU             factors are float32 too
    GPU             float32 features are float32 factors, multiplied as torch is set; 16-bit
                    features are factors of 16 bits, and so are the exponentials and G (`narrow.py`)
Nothing waits for a GPU: a CUDA graph can capture a call.
"""

import torch
from torch import Tensor

from fastclip.backends.chunked.blocks import blocks_of
from fastclip.backends.chunked.gradient_sums import GradientSums
from fastclip.backends.chunked.left_out import LeftOut
from fastclip.backends.chunked.machine import machine_of
from fastclip.backends.chunked.narrow import Narrow
from fastclip.backends.chunked.wide import Wide
from fastclip.backends.kept_logits import NOTHING_KEPT, KeptLayout, no_kept_rows
from fastclip.backends.normalization import compute_dtype
from fastclip.rectangle import Rectangle, Sides

TAKES_INTERVALS = True


def unsupported(device_type: str, dtype: torch.dtype) -> str | None:
    return None


def kept_layout(primitive: str, dtype: torch.dtype) -> KeptLayout:
    return NOTHING_KEPT


def contrastive_lse(
    rectangle: Rectangle, workspace: int | None, kept_rows: int, needs_maximum: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arithmetic, blocks, left_out = _choice(rectangle, workspace)
    sides = rectangle.sides
    like = rectangle.logit_scale.to(compute_dtype(rectangle.rows.dtype))
    positive = like.new_zeros(blocks.M)
    of_rows, of_cols = (_Statistics(size, like) for size in rectangle.lengths)
    cols = arithmetic.cols(rectangle.cols)
    for chunk in blocks.chunks():
        rows = arithmetic.rows(rectangle.rows[chunk])
        for panel in blocks.panels():
            products = arithmetic.products(rows, cols[panel])
            pairs, paired = _pairs(products, chunk, panel, rectangle)
            positive[paired] = arithmetic.logits(pairs)
            left_out.fill(products, chunk, panel, float("-inf"))
            pairs.fill_(float("-inf"))
            if sides.rows:
                of_rows.merge(chunk, products, 1, arithmetic, last=not sides.cols)
            if sides.cols:
                of_cols.merge(panel, products, 0, arithmetic, last=True)
    maximum = torch.cat((of_rows.maximum, of_cols.maximum))
    total = torch.cat((of_rows.total, of_cols.total))
    total.masked_fill_(total == 0, 1.0)
    return positive, maximum, total, no_kept_rows(like)


def contrastive_lse_backward(
    rectangle: Rectangle,
    grad_positive: Tensor,  # (M,)
    grad_total: Tensor,  # (sum of lengths,)
    shift: Tensor,  # (sum of lengths,)
    kept: Tensor,  # (0, 0)
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor]:
    row_shift, col_shift = _finite(shift).split(rectangle.lengths)
    grad_row_sum, grad_col_sum = grad_total.split(rectangle.lengths)
    largest = grad_positive.abs().max()
    if len(grad_total) > 0:
        largest = torch.maximum(largest, grad_total.abs().max())
    arithmetic, blocks, left_out = _choice(rectangle, workspace, largest)
    sums = GradientSums(rectangle, arithmetic, wants)
    of_pairs = arithmetic.weighted(grad_positive)
    of_rows = of_cols = None
    for chunk in blocks.chunks():
        with sums.of_rows(chunk) as rows:
            if rectangle.sides.rows:
                of_rows = row_shift[chunk, None], grad_row_sum[chunk, None]
            for panel in blocks.panels():
                if rectangle.sides.cols:
                    of_cols = col_shift[panel], grad_col_sum[panel]
                products = arithmetic.products(rows, sums.cols[panel])
                of_paired = _pairs(products, chunk, panel, rectangle)[0].clone()
                grad_logits = arithmetic.softmax_gradient(products, of_rows, of_cols)
                left_out.fill(grad_logits, chunk, panel, 0.0)
                pairs, paired = _pairs(grad_logits, chunk, panel, rectangle)
                pairs.copy_(of_pairs[paired])
                sums.add_lost(arithmetic.lost(of_pairs[paired], pairs), of_paired)
                sums.add(panel, arithmetic.factor(grad_logits))
    return sums.finish()


def siglip_sum(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    workspace: int | None,
    kept_rows: int,
) -> tuple[Tensor, Tensor]:
    arithmetic, blocks, left_out = _choice(rectangle, workspace)
    cols = arithmetic.cols(rectangle.cols)
    row_loss = cols.new_empty(blocks.M, dtype=compute_dtype(rectangle.rows.dtype))
    for chunk in blocks.chunks():
        rows = arithmetic.rows(rectangle.rows[chunk])
        for panel in blocks.panels():
            logits = arithmetic.biased(arithmetic.products(rows, cols[panel]), logit_bias)
            pairs, _ = _pairs(logits, chunk, panel, rectangle)
            negated = -pairs
            left_out.fill(logits, chunk, panel, float("-inf"))
            pairs.copy_(negated)
            losses = arithmetic.softplus(logits)
            row_loss[chunk] = losses if panel.start == 0 else row_loss[chunk] + losses
    return row_loss, no_kept_rows(cols)


def siglip_sum_backward(
    rectangle: Rectangle,
    logit_bias: Tensor,  # ()
    grad_row_loss: Tensor,  # (M,)
    kept: Tensor,  # (0, 0)
    workspace: int | None,
    wants: Sides,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arithmetic, blocks, left_out = _choice(rectangle, workspace, grad_row_loss.abs().max())
    sums = GradientSums(rectangle, arithmetic, wants)
    grad_logit_bias = torch.zeros_like(rectangle.logit_scale, dtype=torch.float64)
    for chunk in blocks.chunks():
        with sums.of_rows(chunk) as rows:
            for panel in blocks.panels():
                products = arithmetic.products(rows, sums.cols[panel])
                of_paired = _pairs(products, chunk, panel, rectangle)[0].clone()
                logits = arithmetic.biased(products, logit_bias)
                pairs, paired = _pairs(logits, chunk, panel, rectangle)
                negated = -pairs
                of_pairs = negated.sigmoid() * arithmetic.weighted(grad_row_loss[paired])
                left_out.fill(logits, chunk, panel, float("-inf"))
                pairs.copy_(negated)
                grad_logits = arithmetic.sigmoid_gradient(logits, grad_row_loss[chunk, None])
                pairs = _pairs(grad_logits, chunk, panel, rectangle)[0].neg_()
                lost = arithmetic.lost(-of_pairs, pairs)
                sums.add_lost(lost, of_paired)
                grad_logit_bias += arithmetic.sum(grad_logits, lost)
                sums.add(panel, grad_logits)
    return *sums.finish(), grad_logit_bias.to(compute_dtype(rectangle.rows.dtype))


def _choice(rectangle: Rectangle, workspace: int | None, largest: Tensor | None = None):
    """Return the arithmetic, the blocks, and the left-out entries of a call."""
    machine = machine_of(rectangle.rows.device)
    is_narrow = machine.multiplies_16_bits and rectangle.rows.dtype.itemsize == 2
    arithmetic = Narrow if is_narrow else Wide
    blocks = blocks_of(rectangle, workspace, machine)
    return arithmetic(rectangle, largest), blocks, LeftOut(rectangle, machine)


class _Statistics:
    """The largest logit and the sum of exponentials relative to it, of each row or column."""

    def __init__(self, size: int, like: Tensor) -> None:
        self.maximum = like.new_full((size,), float("-inf"))
        self.total = like.new_zeros(size)

    def merge(
        self, part: slice, products: Tensor, dim: int, arithmetic: Wide | Narrow, last: bool
    ) -> None:
        """Merge a block, whose pairs are -inf; with `last` the block may be overwritten."""
        maximum, total = self.maximum[part], self.total[part]
        merged = torch.maximum(maximum, arithmetic.logits(products.amax(dim)))
        shift = _finite(merged)
        total *= torch.exp(maximum - shift)
        total += arithmetic.sum_exp(products, shift, dim, last)
        maximum.copy_(merged)


def _pairs(block: Tensor, chunk: slice, panel: slice, rectangle: Rectangle) -> tuple[Tensor, slice]:
    """Return the pairs within the block, as a view, and their rows in the rectangle."""
    offset = rectangle.pair_offset + chunk.start - panel.start
    pairs = block.diagonal(offset)
    first = chunk.start + max(0, -offset)
    return pairs, slice(first, first + len(pairs))


def _finite(maximum: Tensor) -> Tensor:
    """Return a finite shift where there is no negative: exp(-inf + inf) would be nan."""
    return maximum.masked_fill(maximum == float("-inf"), 0.0)
