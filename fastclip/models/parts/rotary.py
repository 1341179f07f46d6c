"""Rotary embeddings of places in a grid, by which attention sees how far apart two patches are.

    angles of place (x, y)   x f_0, ..., x f_{n-1}, y f_0, ..., y f_{n-1},   f_i = 10,000^(-i / n)
    rotated                  channels 2 i and 2 i + 1 of a head turned by angle i;  4 n channels

Source: Su et al. 2021, arXiv:2104.09864; in two dimensions, Fang et al. 2023 (EVA-02),
arXiv:2303.11331.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10_000.0


class Rotation(NamedTuple):
    """The cosines and sines of places, float32: (N, head_width) or (B, 1, N, head_width)."""

    cos: Tensor
    sin: Tensor

    def of(self, x: Tensor) -> Tensor:
        """Rotate (B, heads, N, head_width) `x`, in at least float32; the result has its dtype."""
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        return (x * self.cos + turned * self.sin).to(x.dtype)

    def at(self, places: Tensor) -> "Rotation":
        """Return the rotation of `places`, (B, M) numbers of places for each sample."""
        return Rotation(*(table[places][:, None] for table in self))


def grid_rotation(
    grid_size: tuple[int, int],
    reference_grid: tuple[int, int],
    first: int,
    head_width: int,
    device: torch.device,
) -> Rotation:
    """Return the rotation of each place of a grid, row by row.

    Args:
        grid_size: rows and columns.
        reference_grid: rows and columns of the grid whose neighbouring places are 1 apart; a grid
            of another size is stretched over it.
        first: the number of the first row and of the first column.
        head_width: channels of a head, a multiple of 4.
        device: where the rotation is computed.
    """
    num_frequencies = head_width // 4
    places = torch.arange(num_frequencies, device=device).float() / num_frequencies
    frequencies = 1.0 / BASE**places
    y, x = (
        (torch.arange(size, device=device).float() + first) / size * reference
        for size, reference in zip(grid_size, reference_grid, strict=True)
    )
    rows, columns = grid_size
    of_x = (x[:, None] * frequencies).expand(rows, -1, -1)
    of_y = (y[:, None, None] * frequencies).expand(-1, columns, -1)
    angles = torch.cat((of_x, of_y), -1).flatten(0, 1).repeat_interleave(2, -1)
    return Rotation(angles.cos(), angles.sin())
