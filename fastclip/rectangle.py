"""The argument of every primitive: a rectangle of logits, and which entries are pairs or left out.

    logit_ij = logit_scale <row_i, col_j>,    i < M, j < N

    pair        (i, i + offset), if `positives` is Diagonal(offset) and that column exists
    left out    begin_i <= j < end_i, if `excluded` is an Interval; a pair in the interval stays one
    negative    every other entry

This module is below the backends and the operators, because all of them pass a rectangle on: from a
loss to the kernels, and through the schedules of `fastclip.distributed`. It imports torch only.
Every class is a NamedTuple: immutable, cheap to make, and traced by torch.compile.
"""

from typing import NamedTuple

from torch import Tensor


class Diagonal(NamedTuple):
    """The pairs of a rectangle: row i and column i + offset, wherever that column exists."""

    offset: int = 0


MAIN_DIAGONAL = Diagonal(0)


class Interval(NamedTuple):
    """Columns that a row does not see: row i leaves out the columns begin_i <= j < end_i.

    The interval masks entries: column j does not see row i either. It may be empty
    (end_i <= begin_i) and may reach beyond the rectangle. A pair is not affected: the logits of
    pairs are computed separately, in O(M D), wherever they are.

    Args:
        begin: (M,) int32, contiguous, on the features' device.
        end: (M,) int32, contiguous, on the features' device.

    Example:
        With columns sorted by an id, the columns that share a row's id are an interval:
        >>> begin = torch.searchsorted(col_ids, row_ids, out_int32=True)
        >>> end = torch.searchsorted(col_ids, row_ids, out_int32=True, right=True)
        >>> Interval(begin, end)
    """

    begin: Tensor
    end: Tensor


class Sides(NamedTuple):
    """Which sides of a rectangle are meant: `ROWS`, `COLUMNS` or `BOTH`."""

    rows: bool
    cols: bool


ROWS, COLUMNS, BOTH = Sides(True, False), Sides(False, True), Sides(True, True)


class Rectangle(NamedTuple):
    """A rectangle of logits: the first argument of every primitive.

    Args:
        rows: (M, D) float32, bfloat16, float16 or float64, any strides.
        cols: (N, D), of the rows' dtype and device, any strides.
        logit_scale: () float32, or float64 for float64 features.
        positives: the pairs, or None if no entry is a pair.
        excluded: the entries that are left out, or None if no entry is.
        normalize: whether the features are divided by their norms first.
        sides: the sides whose statistics `contrastive_lse` returns. The sigmoid primitive only has
            sums of rows and ignores this.

    Example:
        >>> batch = Rectangle(image_features, text_features, scale, Diagonal(0))
        >>> queue = Rectangle(image_features, old_text_features, scale, None, sides=ROWS)
    """

    rows: Tensor
    cols: Tensor
    logit_scale: Tensor
    positives: Diagonal | None
    excluded: Interval | None = None
    normalize: bool = False
    sides: Sides = BOTH

    @property
    def pair_offset(self) -> int:
        """The column of row 0's pair, as kernels take it; without pairs N, which is no column."""
        return self.cols.shape[0] if self.positives is None else self.positives.offset

    @property
    def lengths(self) -> list[int]:
        """How many statistics rows and columns have: 0 for a side that is not wanted."""
        M, N = self.rows.shape[0], self.cols.shape[0]
        return [M if self.sides.rows else 0, N if self.sides.cols else 0]
