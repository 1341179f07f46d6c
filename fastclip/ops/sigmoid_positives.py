"""The sigmoid losses of images and texts with one id that are not a pair, as positives.

With P(i) the texts with image i's id and text i, k_i their number, and k'_j the number of text j's
images,

    w_ij     = 1/2 / k_i + 1/2 / k'_j
    loss_i   = sum over other j of softplus(l_ij) + sum over j in P(i) of w_ij softplus(-l_ij)

so that a pair whose id occurs nowhere else has the weight 1. The primitive (`siglip_sum`) leaves
out entries with one id, and gives pairs the weight 1; this module computes the terms to be added:

    sum over j in P(i), j != i, of w_ij softplus(-l_ij) + (w_ii - 1) softplus(-l_ii)

With rows and columns in the order of ids, the positives are a band along the diagonal. The logits
of one block of the band, ROWS rows and the columns that any of these needs, are held at a time, and
are computed again in the backward. Cost: 2 B D (ROWS + the size of a class) FLOPs where both of a
pair have one id; at most 2 B^2 D, where the ids of images and texts are unrelated. The host reads
where blocks begin: this waits for a GPU once per rectangle.

Source: siglip_kernel 0.1.2 has these weights.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fastclip.backends.normalization import prepared_rows
from fastclip.ops.classes import Classes
from fastclip.rectangle import Rectangle

ROWS = 256  # rows of a block of the band


def half_shares(ids: Tensor, ids_of_partners: Tensor, ids_of_others: Tensor) -> Tensor:
    """Return 1/2 / k for each row or column of a side, (n,) float64.

    Args:
        ids: (n,), the ids of that side.
        ids_of_partners: (n,), the ids of the other halves of their pairs.
        ids_of_others: (N,), the ids of the whole other side, in all processes.
    """
    number = Classes(ids_of_others).count(ids) + (ids != ids_of_partners)
    return 0.5 / number.double()


def positive_terms(
    rectangle: Rectangle,  # M rows, N columns; what has one id is excluded
    logit_bias: Tensor,  # ()
    row_shares: Tensor,  # (M,), of `half_shares`
    col_shares: Tensor,  # (N,)
) -> Tensor:  # (M,)
    """Return the terms that the losses of rows have in addition to `siglip_sum`."""
    with torch.autocast(rectangle.rows.device.type, enabled=False):
        rows, cols = (prepared_rows(x, rectangle.normalize) for x in rectangle[:2])
        row_shares, col_shares = (x.to(rows.dtype) for x in (row_shares, col_shares))
        scalars = rectangle.logit_scale, logit_bias
        is_square = rectangle.positives is not None
        found = []
        for chunk, span in _blocks(rectangle):
            if span.start >= span.stop:
                found.append(rows.new_zeros(chunk.stop - chunk.start))
                continue
            block = (
                rows[chunk], cols[span], *scalars, row_shares[chunk], col_shares[span],
                *(x[chunk] for x in rectangle.excluded),
                span.start, chunk.start if is_square else None,
            )  # fmt: skip
            found.append(_recomputed_in_the_backward(_losses_of_block, *block))
        terms = torch.cat(found)
        if not is_square:
            return terms
        own = scalars[0] * (rows * cols).sum(1) + logit_bias
        return terms + (row_shares + col_shares - 1) * F.softplus(-own, threshold=40.0)


def _recomputed_in_the_backward(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    # The transforms of torch.func do not support the recomputation: there, the block is kept.
    if torch._C._are_functorch_transforms_active():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _blocks(rectangle: Rectangle) -> list[tuple[slice, slice]]:
    """Return slices of rows, each with the span of the columns that any of its rows needs."""
    N = len(rectangle.cols)
    try:
        begin, end = torch.stack(rectangle.excluded).clamp(0, N).tolist()
    except RuntimeError:
        raise RuntimeError(
            "a sigmoid loss with positives='ids' reads the ids on the host: under "
            "torch.func.vmap the ids must be the same for all samples"
        ) from None
    blocks = []
    for first in range(0, len(begin), ROWS):
        rows = range(first, min(first + ROWS, len(begin)))
        # A row whose only column is its own pair adds nothing here.
        wide = [i for i in rows if not _is_own_alone(rectangle, i, begin[i], end[i])]
        span = slice(
            min((begin[i] for i in wide), default=0), max((end[i] for i in wide), default=0)
        )
        blocks.append((slice(rows.start, rows.stop), span))
    return blocks


def _is_own_alone(rectangle: Rectangle, row: int, begin: int, end: int) -> bool:
    if rectangle.positives is not None and (begin, end) == (row, row + 1):
        return True
    return begin >= end


def _losses_of_block(
    rows: Tensor,  # (m, D)
    cols: Tensor,  # (n, D)
    logit_scale: Tensor,  # ()
    logit_bias: Tensor,  # ()
    row_shares: Tensor,  # (m,)
    col_shares: Tensor,  # (n,)
    begin: Tensor,  # (m,), of each row's columns
    end: Tensor,  # (m,)
    first_col: int,
    first_row: int | None,  # None where rows have no pairs
) -> Tensor:  # (m,)
    losses = F.softplus(-(logit_scale * (rows @ cols.T) + logit_bias), threshold=40.0)
    col = torch.arange(first_col, first_col + len(cols), device=cols.device)
    is_same = (begin[:, None] <= col) & (col < end[:, None])
    if first_row is not None:
        row = torch.arange(first_row, first_row + len(rows), device=rows.device)
        is_same &= row[:, None] != col
    weights = (row_shares[:, None] + col_shares).masked_fill(~is_same, 0.0)
    return (weights * losses).sum(1)
