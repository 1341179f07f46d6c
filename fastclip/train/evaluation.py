"""Evaluation while training: retrieval among the pairs of a validation source, without logits."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from fastclip.data.loading.loader import PairLoader
from fastclip.evaluate.retrieval import recall_at, retrieval
from fastclip.functional import clip_loss
from fastclip.train.ranks import Ranks

RECALLS = (1, 5, 10)


@torch.no_grad()
def evaluate_retrieval(
    model: nn.Module,
    loader: PairLoader,
    ranks: Ranks,
    prepare: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager],
) -> dict[str, float] | None:
    """Rank every image's text among all, and the reverse; metrics have open_clip's names.

    Args:
        model: encodes; its mode is restored.
        loader: this rank's share of the pairs, one epoch of it.

    Returns:
        Metrics, on the first rank; None on others.
    """
    was_training = model.training
    model.eval()
    features: list[tuple[Tensor, Tensor]] = []
    for images, tokens, _ in loader:
        with autocast():
            image_features, text_features = model(prepare(images), tokens.to(ranks.device))[:2]
        features.append((image_features.float().cpu(), text_features.float().cpu()))
    model.train(was_training)
    shares = ranks.gather(features)
    if shares is None:
        return None
    pairs = [pair for share in shares for pair in share]
    if not pairs:
        return {"num_samples": 0}
    image_features, text_features = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
    metrics: dict[str, float] = {}
    for direction, found in retrieval(image_features, text_features)._asdict().items():
        metrics[f"{direction}_mean_rank"] = found.double().mean().item()
        metrics[f"{direction}_median_rank"] = found.double().median().item()
        for k in RECALLS:
            metrics[f"{direction}_R@{k}"] = recall_at(k, found)
    scale = model.logit_scale.detach().exp().float().cpu()
    metrics["clip_val_loss"] = clip_loss(image_features, text_features, scale).item()
    metrics["num_samples"] = len(image_features)
    return metrics
