"""Retrieval: rank an image's best own text among all texts, and a text's image among all images.

    best_i = max { <query_i, gallery_j> : j belongs to i }
    rank_i = 1 + #{ j that does not belong to i : <query_i, gallery_j> >= best_i }
    R@K    = fraction of queries with rank_i <= K

An image with several captions is one image: any of its captions is a hit, and the image counts once
in the gallery of a text, however many pairs it is in. R@K is therefore the recall that is reported
for COCO and Flickr, also by CLIP_benchmark. Likewise, a text that several images share is one text:
any of its images is a hit. The queries are every image once, and the text of every pair.

A tie counts against the model (`fastclip.evaluate.ties`), so that collapsed features, for which
everything ties, score 0 and not 1.

Cost: 2 M N D FLOPs per direction, for M images and N texts; memory O(chunk * N), no M x N tensor.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.evaluate.items import Ids, first_of_each, items_of_pairs
from fastclip.evaluate.items import digests as digests
from fastclip.evaluate.items import distinct as distinct
from fastclip.evaluate.ties import counts_against, similarity

DEFAULT_CHUNK = 1024  # queries compared at a time


class Retrieval(NamedTuple):
    """The rank of the best matching item of each query, in both directions; 1 is best."""

    image_to_text: Tensor  # (M,) int64: per image, in the order in which images first appear
    text_to_image: Tensor  # (N,) int64: per pair, the rank of the image of its text


def retrieval(
    image_features: Tensor,
    text_features: Tensor,
    chunk: int = DEFAULT_CHUNK,
    *,
    image_ids: Ids | None = None,
    text_ids: Ids | None = None,
) -> Retrieval:
    """Rank the matching texts of every image, and the matching images of every text.

    Args:
        image_features: (N, D) floating point, unit rows; row i belongs to text i.
        text_features: (N, D), same device.
        chunk: queries compared at a time, at least 1.
        image_ids: N names, paths or numbers. Pairs with the same id have the same image, whose
            features are taken from its first pair. By default equal rows of `image_features` are
            one image, and a warning says how many rows repeat. Because a collapsed model gives
            different images the same features, equal rows are different images if all rows are
            equal, or if the rows of their texts are equal as well.
        text_ids: N names or numbers of texts, likewise.

    Raises:
        ValueError: the shapes differ, there is no row, `chunk` < 1, or the number of ids is not N.

    Example: three captions of one image, one of another.
        >>> images = torch.eye(2)[[0, 0, 0, 1]]
        >>> texts = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> retrieval(images, texts, image_ids=["a", "a", "a", "b"])
        Retrieval(image_to_text=tensor([1, 1]), text_to_image=tensor([1, 1, 2, 1]))
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
    image_of, text_of = items_of_pairs(image_features, text_features, image_ids, text_ids)
    images, texts = image_features[first_of_each(image_of)], text_features[first_of_each(text_of)]
    pairs = torch.stack([image_of, text_of]).to(image_features.device)
    return Retrieval(
        ranks(images, texts, chunk, pairs), ranks(texts, images, chunk, pairs.flip(0))[pairs[1]]
    )


def recall_at(k: int, matching_ranks: Tensor) -> float:
    """Return R@K: the fraction of (N,) ranks that are at most `k`."""
    return (matching_ranks <= k).double().mean().item()


def nearest(queries: Tensor, gallery: Tensor, chunk: int = DEFAULT_CHUNK) -> Tensor:
    """Return the (M,) int64 index in the (N, D) gallery of the best match of each of M queries.

    If several rows are equally near, the first of them is the match.
    """
    gallery = gallery.double()
    return torch.cat([similarity(part, gallery).argmax(1) for part in queries.split(chunk)])


def ranks(
    queries: Tensor, gallery: Tensor, chunk: int = DEFAULT_CHUNK, pairs: Tensor | None = None
) -> Tensor:
    """Return, for each query, the rank of the best gallery row that belongs to it.

    Args:
        queries: (M, D).
        gallery: (N, D).
        chunk: queries compared at a time.
        pairs: (2, P) int64: indices of queries, and of gallery rows that belong to them, at least
            one row for each query; by default row i belongs to query i.

    Returns:
        (M,) int64.
    """
    return ranks_and_ties(queries, gallery, chunk, pairs)[0]


@torch.no_grad()
def ranks_and_ties(
    queries: Tensor, gallery: Tensor, chunk: int = DEFAULT_CHUNK, pairs: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `ranks` returns, and the number of ties that each rank includes.

    Returns:
        (M,) int64 ranks; and (M,) int64 numbers of gallery rows that do not belong to the query and
        are exactly as near as the best row that does. Without the rule for ties each rank would be
        smaller by that number.
    """
    if pairs is None:
        pairs = torch.arange(len(queries), device=queries.device).expand(2, -1)
    flat = (pairs[0] * len(gallery) + pairs[1]).unique()  # sorted by query
    pairs = torch.stack([flat // len(gallery), flat % len(gallery)])
    starts = torch.arange(0, len(queries) + chunk, chunk, device=pairs.device)
    edges = torch.searchsorted(pairs[0], starts).tolist()
    gallery = gallery.double()
    found, ties = [], []
    for i, part in enumerate(queries.split(chunk)):
        near = similarity(part, gallery)
        own, columns = pairs[:, edges[i] : edges[i + 1]]
        own = own - i * chunk
        best = near.new_full((len(part),), -torch.inf)
        best = best.scatter_reduce(0, own, near[own, columns], "amax")
        is_against = counts_against(near, best)
        is_against[own, columns] = False
        found.append(1 + is_against.sum(1))
        ties.append((is_against & (near == best[:, None])).sum(1))
    return torch.cat(found), torch.cat(ties)
