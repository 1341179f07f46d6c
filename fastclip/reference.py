"""A dense float64 reference for any contrastive loss, which is described as a plan.

A plan consists of rectangles of logits, merges of their statistics, and a scalar function of the
positives and the merged statistics. A library that computes a loss without the logits can be tested
against this module, which holds all logits and leaves the gradients to autograd. This module is
slow, takes O(M N) memory, and shares no code with any backend of fastclip. It imports torch only.

    statistics    positive_i = the logit of row i's pair, 0 without a pair
                  rows_i     = log sum_j exp(logit_ij) over the negatives of row i; -inf without any
                  columns_j  likewise for column j
    merge         log sum_k exp(part_k), for the same rows, or columns, in several rectangles
    evaluate      function(positives of all rectangles, all merges)
    sigmoid_sums  sum_j softplus(logit_ij + bias) over negatives + softplus(-logit_ij - bias) for
                  the pair: the sigmoid loss, which needs no merge because its sums just add up

Example, symmetric cross-entropy with a queue of older texts that are negatives of the images:

    >>> from fastclip import reference
    >>> from fastclip.rectangle import ROWS, Diagonal, Rectangle
    >>> from fastclip.reference import Part, Plan
    >>> batch = Rectangle(images, texts, scale, Diagonal(0))
    >>> queue = Rectangle(images, old_texts, scale, None, sides=ROWS)
    >>> def cross_entropy(positives, merged):
    ...     of_images, of_texts = (F.softplus(lse - positives[0]).mean() for lse in merged)
    ...     return (of_images + of_texts) / 2
    >>> merges = [[Part(0, "rows"), Part(1, "rows")], [Part(0, "columns")]]
    >>> truth = reference.evaluate(Plan([batch, queue], merges, cross_entropy))
    >>> gradients = torch.autograd.grad(truth, [images, texts, scale])

A gradient has the dtype of its tensor: for gradients in float64 the leaves must be in float64,
`x.detach().double().requires_grad_()`, which is exact.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.rectangle import Rectangle

INF = float("inf")
LEAST_NORM = 1e-12  # rows are divided by their norm, or by this, as torch's F.normalize does


class Statistics(NamedTuple):
    """The differentiable statistics of a rectangle with M rows and N columns, for a loss.

    Attributes:
        positive: (M,), the logit of each row's pair; 0 for a row without a pair.
        rows: (M,), the log-sum-exp of each row's negatives; -inf for a row without negatives; None
            if the rectangle's sides leave out the rows.
        columns: (N,), likewise for columns.
    """

    positive: Tensor
    rows: Tensor | None
    columns: Tensor | None


class Part(NamedTuple):
    """One side of one rectangle of a plan.

    Attributes:
        rectangle: the index of the rectangle in `Plan.rectangles`.
        side: "rows" or "columns".
    """

    rectangle: int
    side: str


class Plan(NamedTuple):
    """A contrastive loss as rectangles, merges and a function.

    Attributes:
        rectangles: any number of rectangles, which may share tensors.
        merges: each is a list of parts: statistics of the same rows, or columns, against disjoint
            sets of columns, or rows. A single part is a merge too.
        function: called with (positives, merged): a list with the positives (M,) of each rectangle
            and a list with the log-sum-exp of each merge. It returns a scalar.
    """

    rectangles: Sequence[Rectangle]
    merges: Sequence[Sequence[Part]]
    function: Callable[[list[Tensor], list[Tensor]], Tensor]


def evaluate(plan: Plan, dtype: torch.dtype = torch.float64) -> Tensor:
    """Compute a plan with all logits in memory.

    Args:
        dtype: the dtype of the arithmetic. Float32 gives the result of eager code, whose error is
            a fair measure for other code in float32.

    Returns:
        The result of `plan.function`, differentiable with respect to rows, columns and scales.

    Raises:
        ValueError: a merge has no parts or parts of different lengths, or one of its parts names a
            missing rectangle, an unknown side, or a side that its rectangle leaves out.
    """
    found = [statistics(rectangle, dtype) for rectangle in plan.rectangles]
    merged = [merge([_part(found, part) for part in parts]) for parts in plan.merges]
    return plan.function([x.positive for x in found], merged)


def statistics(rectangle: Rectangle, dtype: torch.dtype = torch.float64) -> Statistics:
    """Return the statistics of one rectangle, computed in `dtype`; see `fastclip.rectangle`."""
    logits, is_pair, is_negative = _entries(rectangle, dtype)
    negatives = logits.masked_fill(~is_negative, -INF)
    return Statistics(
        torch.where(is_pair, logits, 0.0).sum(1),
        _log_sum_exp(negatives, 1) if rectangle.sides.rows else None,
        _log_sum_exp(negatives, 0) if rectangle.sides.cols else None,
    )


def sigmoid_sums(
    rectangle: Rectangle, logit_bias: Tensor, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return the sum (M,) of the sigmoid losses of each row's entries; differentiable.

    The mean of `fastclip.siglip_loss` is `sigmoid_sums(rectangle, bias).sum() / M` for a square
    whose pairs are on the diagonal.

    Args:
        rectangle: its `sides` are ignored.
        logit_bias: ().
        dtype: the dtype of the arithmetic.
    """
    logits, is_pair, is_negative = _entries(rectangle, dtype)
    logits = logits + logit_bias.to(dtype)
    # Not softplus: torch replaces it by the identity above 20.
    losses = -F.logsigmoid(torch.where(is_pair, logits, -logits))
    return torch.where(is_pair | is_negative, losses, 0.0).sum(1)


def merge(parts: Sequence[Tensor]) -> Tensor:
    """Merge the log-sum-exps (n,) of disjoint parts into one (n,); -inf where all parts are -inf.

    Raises:
        ValueError: there are no parts, or they have different lengths.
    """
    shapes = [tuple(part.shape) for part in parts]
    if not shapes or len(set(shapes)) > 1:
        raise ValueError(f"a merge needs at least one part, and parts of one length, got {shapes}")
    return _log_sum_exp(torch.stack(list(parts)), 0)


def _entries(rectangle: Rectangle, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits (M, N), and masks of the pairs and the negatives."""
    rows, cols = (_prepared(x.to(dtype), rectangle.normalize) for x in rectangle[:2])
    logits = rectangle.logit_scale.to(dtype) * (rows @ cols.T)
    row = torch.arange(len(rows), device=rows.device)[:, None]
    col = torch.arange(len(cols), device=rows.device)
    is_pair = torch.zeros_like(logits, dtype=torch.bool)
    if rectangle.positives is not None:
        is_pair = col == row + rectangle.positives.offset
    is_negative = ~is_pair
    if rectangle.excluded is not None:
        begin, end = (x[:, None] for x in rectangle.excluded)
        is_negative = is_negative & ~((begin <= col) & (col < end))
    return logits, is_pair, is_negative


def _part(found: Sequence[Statistics], part: Part) -> Tensor:
    if part.side not in ("rows", "columns"):
        raise ValueError(f"the side of a part must be 'rows' or 'columns', got {part.side!r}")
    if not 0 <= part.rectangle < len(found):
        raise ValueError(f"{part} names a missing rectangle: the plan has {len(found)}")
    value = getattr(found[part.rectangle], part.side)
    if value is None:
        raise ValueError(f"{part} names a side that its rectangle leaves out")
    return value


def _prepared(features: Tensor, normalize: bool) -> Tensor:
    return F.normalize(features, dim=1, eps=LEAST_NORM) if normalize else features


def _log_sum_exp(values: Tensor, dim: int) -> Tensor:
    """Return -inf, with a gradient of zero, where all values are -inf; torch's gradient is nan."""
    is_empty = (values == -INF).all(dim, keepdim=True)
    found = values.masked_fill(is_empty, 0.0).logsumexp(dim)
    return found.masked_fill(is_empty.squeeze(dim), -INF)
