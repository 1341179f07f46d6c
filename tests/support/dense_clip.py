"""The CLIP loss with options, out of dense logits and dense targets, as textbooks write it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    extra: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    margin: float = 0.0,
    direction_weights: tuple[float, float] = (0.5, 0.5),
    normalize: bool = False,
    reduction: str = "mean",
) -> Tensor:
    if normalize:
        image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
        extra = None if extra is None else F.normalize(extra, dim=1)
    cosines = image @ text.T - margin * torch.eye(len(image), dtype=image.dtype)
    of_images = cosines if extra is None else torch.cat((cosines, image @ extra.T), 1)
    losses = sum(
        weight * _soft_cross_entropy(scale * rows, label_smoothing)
        for weight, rows in zip(direction_weights, (of_images, cosines.T), strict=True)
        if weight > 0
    )
    losses = losses if weights is None else weights * losses
    return losses.mean() if reduction == "mean" else losses


def _soft_cross_entropy(logits: Tensor, label_smoothing: float) -> Tensor:
    B, C = logits.shape
    targets = (1 - label_smoothing) * torch.eye(B, C, dtype=logits.dtype) + label_smoothing / C
    return -(targets * logits.log_softmax(1)).sum(1)
