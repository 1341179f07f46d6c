"""Select and complete sides, for kernels that always compute statistics of rows and columns."""

import torch
from torch import Tensor

from fastclip.rectangle import BOTH, Rectangle

# Relative to this shift every exponential is zero.
NO_SHIFT = float("inf")


def wanted(of_both: Tensor, rectangle: Rectangle) -> Tensor:  # (M + N,) -> (sum of lengths,)
    """Select the statistics of the sides that are wanted."""
    if rectangle.sides == BOTH:
        return of_both
    M, (of_rows, of_cols) = len(rectangle.rows), rectangle.sides
    return of_both[0 if of_rows else M : None if of_cols else M].clone()


def completed(of_wanted: Tensor, rectangle: Rectangle, filler: float) -> Tensor:
    """Do the reverse: (sum of lengths,) -> (M + N,), with `filler` for an unwanted side."""
    if rectangle.sides == BOTH:
        return of_wanted
    sides = zip(rectangle[:2], rectangle.sides, strict=True)
    of_rows, of_cols = (of_wanted.new_full((0 if given else len(x),), filler) for x, given in sides)
    return torch.cat([of_rows, of_wanted, of_cols])
