"""Resizes a table of learned positions on a grid to the grids of images of any size.

    resized[i, j] = sum over r, c of rows[i, r] columns[j, c] table[r, c]

Each factor is a triangle filter, which is as wide as the step where the grid becomes coarser. This
is what `F.interpolate(mode="bilinear", align_corners=False, antialias=True)` computes, written as
two matrix products, whose gradients are the same in every run, on every device.
"""

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor


def resized_grid(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a (rows, columns, width) table to (*grid, width).

    The result has the table's dtype. A 16-bit table is resized in float32, also under autocast.

    Example:
        >>> resized_grid(torch.randn(16, 16, 768), (12, 21)).shape
        torch.Size([12, 21, 768])
    """
    own = fixed_sizes(table.shape[:2])
    if own == grid:
        return table
    dtype = torch.promote_types(table.dtype, torch.float32)
    rows, columns = (
        triangle_weights(size, own, dtype, table.device)
        for size, own in zip(grid, own, strict=True)
    )
    with torch.autocast(table.device.type, enabled=False):
        resized = torch.einsum("ir,rcw,jc->ijw", rows, table.to(dtype), columns)
    return resized.to(table.dtype)


def fixed_sizes(sizes: Iterable[int]) -> tuple[int, ...]:
    """Return sizes as plain numbers, without the tracer's warning that a trace fixes them."""
    if not torch.jit.is_tracing():
        return tuple(sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(int(size) for size in sizes)


def triangle_weights(size: int, own: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the (size, own) weights with which `size` places read `own` places on one line."""
    step = own / size
    centres = (torch.arange(size, dtype=dtype, device=device) + 0.5) * step - 0.5
    distances = (torch.arange(own, dtype=dtype, device=device) - centres[:, None]).abs()
    weights = (1 - distances / max(step, 1.0)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
