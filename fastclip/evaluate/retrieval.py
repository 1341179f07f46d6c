"""Retrieval: how far down the list of all texts an image's own text stands, and the reverse.

    rank_i = 1 + #{ j != i : <query_i, gallery_j> >= <query_i, gallery_i> }
    R@K    = share of queries with rank_i <= K

A tie counts against us, so that collapsed features, for which everything ties, score 0 and not 1.
Products are summed in float64 and compared in float32: two equal rows then tie exactly, whichever
order a matrix product sums them in.

Cost: 2 N^2 D FLOPs per direction; memory O(chunk * N), no N x N tensor.
"""

from typing import NamedTuple

import torch
from torch import Tensor

DEFAULT_CHUNK = 1024  # queries compared at a time


class Retrieval(NamedTuple):
    """Ranks of the matching item, 1 is best, in both directions."""

    image_to_text: Tensor  # (N,) int64
    text_to_image: Tensor  # (N,) int64


def retrieval(
    image_features: Tensor, text_features: Tensor, chunk: int = DEFAULT_CHUNK
) -> Retrieval:
    """Rank matching pairs among all of them.

    Args:
        image_features: (N, D) floating point, unit rows; row i belongs to text i.
        text_features: (N, D), same device.
        chunk: queries compared at a time, at least 1.

    Raises:
        ValueError: the shapes differ, there is no row, or `chunk` < 1.
    """
    if image_features.ndim != 2 or image_features.shape != text_features.shape:
        raise ValueError(
            "image_features and text_features must both be (N, D), got "
            f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
        )
    if len(image_features) == 0:
        raise ValueError("retrieval needs at least one pair")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    return Retrieval(
        ranks(image_features, text_features, chunk), ranks(text_features, image_features, chunk)
    )


def recall_at(k: int, matching_ranks: Tensor) -> float:
    """R@K: the share of (N,) ranks that are at most `k`."""
    return (matching_ranks <= k).double().mean().item()


def nearest(queries: Tensor, gallery: Tensor, chunk: int = DEFAULT_CHUNK) -> Tensor:
    """Index (M,) int64 into the (N, D) gallery of each of (M, D) queries' best match."""
    return torch.cat([(part @ gallery.T).argmax(1) for part in queries.split(chunk)])


@torch.no_grad()
def ranks(queries: Tensor, gallery: Tensor, chunk: int = DEFAULT_CHUNK) -> Tensor:
    """Rank (N,) int64 of gallery row i for query row i, both (N, D)."""
    gallery = gallery.double()
    found = []
    for start in range(0, len(queries), chunk):
        similarity = (queries[start : start + chunk].double() @ gallery.T).float()
        matching = similarity.diagonal(start)
        # The match itself is the 1; nan, which a model that has diverged gives, is no match.
        found.append((~(similarity < matching[:, None])).sum(1))
    return torch.cat(found)
