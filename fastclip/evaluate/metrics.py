"""Metrics, computed from features and places, under the names that other projects give them.

image_to_text_R@1, ..., text_to_image_mean_rank   retrieval, per direction; open_clip's names
clip_val_loss                                     the contrastive loss of all pairs at once
top1, top5                                        classification while training
text_retrieval_recall@1, image_retrieval_...      retrieval of texts or images; CLIP_benchmark's
acc1, acc5, mean_per_class_recall, lp_acc1, ...   classification and probes; CLIP_benchmark's
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
OF_A_PROBE = "lp_"  # prefix of the metrics of a probe
_FOUND = {"image_to_text": "text", "text_to_image": "image"}  # what CLIP_benchmark's names say


def accuracy_name(k: int) -> str:
    """Return CLIP_benchmark's name of the top-k accuracy."""
    return f"acc{k}"


def recall_names(direction: str, k: int) -> tuple[str, str]:
    """Return the two names of R@K: CLIP_benchmark's and open_clip's.

    Args:
        direction: "image_to_text" or "text_to_image".

    Example:
        >>> recall_names("image_to_text", 5)
        ('text_retrieval_recall@5', 'image_to_text_R@5')
    """
    return f"{_FOUND[direction]}_retrieval_recall@{k}", f"{direction}_R@{k}"


def rank_metrics(direction: str, ranks: Tensor, recalls: Iterable[int]) -> dict[str, float]:
    """Return the mean and median rank and the recalls of one direction under open_clip's names.

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
    """Return ranks and recalls of both directions, the loss, and the number of pairs.

    Args:
        image_features: (N, D) floating point, unit rows; row i belongs to text i.
        text_features: (N, D), same device.
        logit_scale: () float32, multiplicative, on the same device; used by the loss.
        image_ids: N ids; pairs with the same id have the same image (see `retrieval`).
        text_ids: N ids of texts, likewise.

    Returns:
        For each direction `mean_rank`, `median_rank` (rounded down) and `R@K` in [0, 1] for each
        K of `RECALLS`; `clip_val_loss` in nats; `num_samples`, which is N; and the numbers of
        distinct images, `num_images`, and of distinct texts, `num_texts`.

    Raises:
        ValueError: the shapes differ, there is no pair, or the number of ids is not N.

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
    """Return, for each k of `TOPS`, the fraction of images whose right class is in the first k.

    Args:
        places: (N,) integers, N >= 1, from `fastclip.evaluate.classification.places`.

    Example:
        >>> top_metrics(torch.tensor([1, 1, 4, 9]))
        {'top1': 0.5, 'top5': 0.75}
    """
    return {f"top{k}": recall_at(k, places) for k in TOPS}


def repeats(metrics: dict[str, float]) -> str | None:
    """Return a sentence saying that pairs share images or texts, or None if no pairs do."""
    num_pairs, num_images, num_texts = (
        metrics.get(f"num_{name}", 0) for name in ("samples", "images", "texts")
    )
    if num_images == num_texts == num_pairs or not metrics.get("num_images"):
        return None
    return (
        f"the {num_pairs:,} pairs have {num_images:,} different images and {num_texts:,} different "
        "texts; any text of an image counts as its match, and any image of a text"
    )
