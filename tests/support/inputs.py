"""Inputs on which an error at an edge shows.

With random features at logit_scale 100 a forgotten last column changes nothing. Here rows and
columns on both sides of every tile edge, and the last ones, have a hard negative among each other.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.benchmarks.cases import Shape, make_features

TILE_EDGES = (64, 128, 256, 512, 2048)


def planted_features(
    shape: Shape, data: str = "random", dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """`make_features`, with hard negatives planted across tile edges and in the corners."""
    rows, cols = make_features(shape, data, torch.float64, seed)
    row_edges, col_edges = _edges(shape.M), _edges(shape.N)
    for k, i in enumerate(row_edges):
        for step in (1, 2):
            j = col_edges[(k + step) % len(col_edges)]
            if j != i + shape.positives.offset:
                cols[j] = F.normalize(cols[j] + rows[i], dim=0)
    return rows.to(dtype), cols.to(dtype)


def square(N: int, D: int) -> Shape:
    return Shape(f"{N}x{D}", N, N, D)


def _edges(size: int) -> list[int]:
    edges = {0, size - 1}
    for edge in TILE_EDGES:
        edges |= {i for i in (edge - 1, edge) if i < size}
    return sorted(edges)
