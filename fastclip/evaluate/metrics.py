"""The numbers of an evaluation, of features and places alone, under the names of peers.

image_to_text_R@1, ..., text_to_image_mean_rank   open_clip's of retrieval, each direction
clip_val_loss                                     the contrastive loss of all pairs at once
top1, top5                                        classification while training
text_retrieval_recall@1, image_retrieval_...      CLIP_benchmark's of retrieval, by what is found
acc1, acc5, mean_per_class_recall, lp_acc1, ...   CLIP_benchmark's of classification and of probes
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from fastclip.evaluate.items import Ids, distinct
from fastclip.evaluate.ranking import recall_at, retrieval
from fastclip.functional import clip_loss

RECALLS = (1, 5, 10)
TOPS = (1, 5)
MEAN_PER_CLASS_RECALL = "mean_per_class_recall"
MEAN_AVERAGE_PRECISION = "mean_average_precision"
OF_A_PROBE = "lp_"  # what the names of its metrics begin with
_FOUND = {"image_to_text": "text", "text_to_image": "image"}  # CLIP_benchmark names what is found


def accuracy_name(k: int) -> str:
    """CLIP_benchmark's name of the top-k accuracy."""
    return f"acc{k}"


def recall_names(direction: str, k: int) -> tuple[str, str]:
    """Two names of R@K: CLIP_benchmark's and open_clip's.

    Args:
        direction: "image_to_text" or "text_to_image".

    Example:
        >>> recall_names("image_to_text", 5)
        ('text_retrieval_recall@5', 'image_to_text_R@5')
    """
    return f"{_FOUND[direction]}_retrieval_recall@{k}", f"{direction}_R@{k}"


def rank_metrics(direction: str, ranks: Tensor, recalls: Iterable[int]) -> dict[str, float]:
    """Return the numbers of one direction under open_clip's names.

    Args:
        direction: "image_to_text" or "text_to_image".
        ranks: (N,) int64, 1 is best.

    Returns:
        `{direction}_mean_rank`, `{direction}_median_rank` (rounded down), and `{direction}_R@K` in
        [0, 1] for each K of `recalls`.
    """
    return {
        f"{direction}_mean_rank": ranks.double().mean().item(),
        f"{direction}_median_rank": ranks.double().quantile(0.5).floor().item(),
        **{recall_names(direction, k)[1]: recall_at(k, ranks) for k in recalls},
    }


@torch.no_grad()
def retrieval_metrics(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    image_ids: Ids,
    text_ids: Ids,
) -> dict[str, float]:
    """Return ranks and recalls of both directions, the loss, and how many pairs were ranked.

    Args:
        image_features: (N, D) floating point, unit rows; row i belongs to text i.
        text_features: (N, D), same device.
        logit_scale: () float32, multiplicative, on the same device; of the loss.
        image_ids: N ids; pairs with the same one have the same image (see `retrieval`).
        text_ids: the same of texts.

    Returns:
        For each direction `mean_rank`, `median_rank` (rounded down) and `R@K` in [0, 1] for each
        K of `RECALLS`; `clip_val_loss` in nats; `num_samples`, which is N, and of these pairs the
        number of distinct images, `num_images`, and texts, `num_texts`.

    Raises:
        ValueError: the shapes differ, there is no pair, or the ids are not N.

    Example:
        >>> features = torch.eye(3)
        >>> found = retrieval_metrics(
        ...     features, features, torch.tensor(100.0), image_ids="abc", text_ids="def"
        ... )
        >>> found["image_to_text_R@1"], found["num_samples"]
        (1.0, 3)
    """
    ranks = retrieval(image_features, text_features, image_ids=image_ids, text_ids=text_ids)
    metrics: dict[str, float] = {}
    for direction, found in ranks._asdict().items():
        metrics |= rank_metrics(direction, found, RECALLS)
    metrics["clip_val_loss"] = clip_loss(image_features, text_features, logit_scale).item()
    metrics["num_samples"] = len(image_features)
    metrics["num_images"] = len(ranks.image_to_text)
    metrics["num_texts"] = int(distinct(text_ids).max()) + 1
    return metrics


def top_metrics(places: Tensor) -> dict[str, float]:
    """Return the fraction of images whose right class is among the first k, of each k of `TOPS`.

    Args:
        places: (N,) integers, N >= 1, from `fastclip.evaluate.classification.places`.

    Example:
        >>> top_metrics(torch.tensor([1, 1, 4, 9]))
        {'top1': 0.5, 'top5': 0.75}
    """
    return {f"top{k}": recall_at(k, places) for k in TOPS}


def repeats(metrics: dict[str, float]) -> str | None:
    """Say how many images or texts of `retrieval_metrics` several pairs have; None if none."""
    num_pairs, num_images, num_texts = (
        metrics.get(f"num_{name}", 0) for name in ("samples", "images", "texts")
    )
    if num_images == num_texts == num_pairs or not metrics.get("num_images"):
        return None
    return (
        f"{num_pairs:,} pairs have {num_images:,} images and {num_texts:,} texts: any text of an "
        "image counts as found, and any image of a text"
    )
