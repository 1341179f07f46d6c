"""Where in the matrix of logits a launch works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """A part of the matrix, padded to whole tiles, and the matrix around it."""

    first_row: int
    first_col: int
    num_rows: int
    num_cols: int
    M: int
    N: int
    positive_offset: int
