"""Compute the loss of a batch at every smaller power-of-two batch size, at the cost of one loss.

    leaves      squares of `smallest` pairs on the diagonal of the logits
    siblings    two neighbours A and B become one block: the rectangles A x B and B x A, which have
                no pairs, are merged into the statistics of A's and B's rows and columns

    | A A B B . . . . |     After each level every block has the statistics of a separate batch of
    | A A B B . . . . |     that size. At the end each of the N^2 logits was computed once.
    | B B A A . . . . |

If N is not a multiple of a size, the remaining pairs are merged likewise. They count again where
they are part of a whole batch, at the latest at size N.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.ops import dispatch, validation
from fastclip.ops.contrastive_lse import contrastive_lse
from fastclip.ops.cross_entropy import negative_log_probability
from fastclip.ops.dispatch import Call
from fastclip.ops.merge import merge
from fastclip.rectangle import MAIN_DIAGONAL, Diagonal, Rectangle

MOST_LEAVES = 64


class BatchCurve(NamedTuple):
    """The mean loss of a batch of N pairs after it is cut into smaller batches, for each size.

    Attributes:
        batch_sizes: powers of two in ascending order, then N.
        losses: (sizes,), in nats; float32, or float64 for float64 features. Each is the mean over
            all whole batches of that size.
        pairs_used: how many pairs these whole batches contain: all N, or fewer if the last pairs
            do not fill another batch.

    Example:
        >>> curve = fastclip.clip_batch_curve(image_features, text_features, logit_scale)
        >>> for size, loss in zip(curve.batch_sizes, curve.losses.tolist()):
        ...     print(f"{size:6d} {loss:.4f}")
    """

    batch_sizes: tuple[int, ...]
    losses: Tensor
    pairs_used: tuple[int, ...]

    @property
    def pairs_left_out(self) -> tuple[int, ...]:
        """For each size, how many pairs do not fill a whole batch and are left out."""
        return tuple(self.batch_sizes[-1] - used for used in self.pairs_used)


@torch.no_grad()
def clip_batch_curve(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    normalize: bool = False,
    smallest: int | None = None,
    backend: str = "auto",
    workspace: int | None = None,
) -> BatchCurve:
    """Return the CLIP loss of a batch's pairs at every smaller power-of-two batch size.

    A larger batch makes the task harder: where negatives dominate, the loss rises by about log 2 =
    0.69 with each doubling. A flat curve says that a larger batch changes little. The batch is cut
    in the order of its pairs, which should be random.

    The cost is one forward of `clip_loss`, 2 N^2 D FLOPs, whatever the number of sizes; memory
    beyond the features is O(N). There is no gradient.

    Args:
        image_features, text_features, logit_scale, normalize, backend, workspace: as in
            `fastclip.clip_loss`.
        smallest: the first batch size, a power of two; None is about a 64th of the batch, and at
            least 2. A smaller value needs more calls of the backend: three for each batch of that
            size.

    Returns:
        `BatchCurve`; its last loss is `clip_loss(image_features, text_features, logit_scale)`.
        For a batch with no more than `smallest` pairs, this is the only point.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: as in `clip_loss`, or `smallest` is not a power of two that is at least 2.
        RuntimeError: the named backend cannot take these inputs.

    Example:
        >>> curve = fastclip.clip_batch_curve(image_features, text_features, 100.0)
        >>> curve.batch_sizes, curve.pairs_used
        ((2, 4, 8, 12), (12, 12, 8, 12))
    """
    validation.check_features(image_features, text_features)
    logit_scale = validation.scalar("logit_scale", logit_scale, image_features.device)
    validation.check_options(logit_scale, "mean", workspace)
    scale = validation.scalar_tensor("logit_scale", logit_scale, image_features)
    N = len(image_features)
    leaf = _leaf_size(smallest, N)
    batch = Rectangle(image_features, text_features, scale, MAIN_DIAGONAL, normalize=normalize)
    statistics = _Statistics(batch, dispatch.plan("contrastive_lse", backend, batch, workspace))
    sizes, losses, used = [], [], []
    for size, rectangles in _levels(N, leaf):
        for rows, cols in rectangles:
            statistics.add(rows, cols)
        sizes.append(size)
        used.append(N // size * size)
        losses.append(statistics.mean_loss(used[-1]))
    return BatchCurve(tuple(sizes), torch.stack(losses), tuple(used))


class _Statistics:
    """The statistics of all rows and columns, over the rectangles that were added so far."""

    def __init__(self, batch: Rectangle, call: Call) -> None:
        self.batch, self.call = batch, call
        N = len(batch.rows)
        self.positive = batch.logit_scale.new_zeros(N)
        self.shift = batch.logit_scale.new_full((2, N), float("-inf"))
        self.total = batch.logit_scale.new_ones((2, N))

    def add(self, rows: slice, cols: slice) -> None:
        """Add the logits of some rows and columns: a square of pairs, or a part without pairs."""
        rectangle = self.batch._replace(
            rows=self.batch.rows[rows],
            cols=self.batch.cols[cols],
            positives=Diagonal(0) if rows == cols else None,
        )
        positive, shift, total, _ = contrastive_lse(rectangle, self.call)
        if rows == cols:
            self.positive[rows] = positive
        parts = zip(*(x.split(rectangle.lengths) for x in (shift, total)), strict=True)
        for side, (where, part) in enumerate(zip((rows, cols), parts, strict=True)):
            before = self.shift[side, where], self.total[side, where]
            self.shift[side, where], self.total[side, where] = merge([before, part])

    def mean_loss(self, num_pairs: int) -> Tensor:
        first = slice(num_pairs)
        return negative_log_probability(
            self.positive[first], self.shift[:, first], self.total[:, first]
        ).mean()


def _levels(N: int, leaf: int) -> Iterator[tuple[int, list[tuple[slice, slice]]]]:
    """Yield each batch size, with the rows and columns of the logits that it adds."""
    blocks = [slice(start, min(start + leaf, N)) for start in range(0, N, leaf)]
    rectangles = [(block, block) for block in blocks]
    size = leaf
    while len(blocks) > 1:
        yield size, rectangles
        rectangles, size = [], 2 * size
        for a, b in zip(blocks[::2], blocks[1::2], strict=False):
            rectangles += [(a, b), (b, a)]
        blocks = [slice(start, min(start + size, N)) for start in range(0, N, size)]
    yield N, rectangles


def _leaf_size(smallest: int | None, N: int) -> int:
    if smallest is None:
        return max(2, 1 << (max(1, N // MOST_LEAVES) - 1).bit_length())
    if isinstance(smallest, bool) or not isinstance(smallest, int):
        raise TypeError(f"smallest must be an int or None, got {type(smallest).__name__}")
    if smallest < 2 or smallest & (smallest - 1):
        raise ValueError(f"smallest must be a power of two, at least 2, got {smallest}")
    return smallest
