"""Retrieval among images and texts, where an image may have several texts."""

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

from fastclip.evaluate.metrics import RECALLS
from fastclip.evaluate.ranking import ranks_and_ties
from fastclip.evaluate.scores.arguments import (
    checked_features,
    checked_numbers,
    finite_or_nan,
    rows_at_a_time,
)
from fastclip.evaluate.scores.retrieved import Direction, Retrieved


def retrieval(
    image_features: Tensor,
    text_features: Tensor,
    text_to_image: Sequence[int] | Tensor,
    recall_at: Sequence[int] = RECALLS,
) -> Retrieved:
    """Rank the texts of every image, and the image of every text, by nearest features.

    An image is a hit at K if any of its texts is among its K nearest; it counts as 1 or 0, and not
    as the fraction of its texts that are found, as for COCO and Flickr and in CLIP_benchmark. A
    text is a hit at K if its one image is. A wrong answer that is exactly as near as the right one
    counts against the model (`fastclip.evaluate.ties`), and the result has the number of such ties.

    Args:
        image_features: (M, D) floating point, unit rows, **every image once**. A row that is not
            finite is counted as one that finds nothing and is never found.
        text_features: (N, D) floating point, unit rows.
        text_to_image: (N,) integers in [0, M): the image that each text belongs to, in any order.
            Images without a text are candidates for texts, but are not queries.
        recall_at: the values of K for R@K, each at least 1.

    Returns:
        Recalls under CLIP_benchmark's and open_clip's names, ranks, and confidence intervals by a
        bootstrap over images.

    Raises:
        TypeError: features are not floating point, or numbers are not integers.
        ValueError: shapes do not fit, there is no image or text, or a number is out of range.

    Cost: 4 M N D FLOPs; memory for the features in float64 and blocks of 512 MiB, no M x N tensor.

    Example: three texts of the first image, one of the second.
        >>> images = torch.eye(2)
        >>> texts = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> found = fastclip.evaluate.retrieval(images, texts, [0, 0, 0, 1])
        >>> found.metrics["text_retrieval_recall@1"], found.metrics["image_retrieval_recall@1"]
        (1.0, 0.75)
    """
    images = checked_features("image_features", image_features)
    texts = checked_features("text_features", text_features).to(images.device)
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            "image_features and text_features must have the same width D, got "
            f"{tuple(images.shape)} and {tuple(texts.shape)}"
        )
    image_of = checked_numbers("text_to_image", text_to_image, len(texts), len(images))
    recalls = tuple(index(k) for k in recall_at)
    if not recalls or min(recalls) < 1:
        raise ValueError(f"recall_at must be numbers of at least 1, got {tuple(recall_at)}")
    images, image_is_lost = finite_or_nan(images)
    texts, text_is_lost = finite_or_nan(texts)
    lost = image_is_lost.cpu(), text_is_lost.cpu()
    queries = image_of.unique()
    number_of_query = torch.full((len(images),), -1).index_copy(
        0, queries, torch.arange(len(queries))
    )
    of_query = number_of_query[image_of]
    any_text_is_lost = torch.zeros(len(queries), dtype=torch.bool).index_fill(
        0, of_query[lost[1]], True
    )
    every_text = torch.arange(len(texts))
    device = images.device
    return Retrieved(
        _direction(
            "image_to_text", images[queries.to(device)], texts,
            torch.stack([of_query, every_text]), queries, lost[0][queries] | any_text_is_lost,
        ),
        _direction(
            "text_to_image", texts, images, torch.stack([every_text, image_of]), image_of,
            lost[1] | lost[0][image_of],
        ),
        recalls, len(images), len(images) - len(queries), int(lost[0].sum()), int(lost[1].sum()),
    )  # fmt: skip


def _direction(
    name: str, queries: Tensor, gallery: Tensor, pairs: Tensor, image_of: Tensor, is_lost: Tensor
) -> Direction:
    ranks, ties = ranks_and_ties(
        queries, gallery, rows_at_a_time(len(gallery)), pairs.to(gallery.device)
    )
    return Direction(
        name, ranks.cpu().masked_fill(is_lost, len(gallery) + 1), is_lost, ties.cpu(), image_of
    )
