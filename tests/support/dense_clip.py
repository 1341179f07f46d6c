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
    same: Tensor | None = None,
    positives: str = "pairs",
) -> Tensor:
    """`same` (B, B) bool says which image and text have one id."""
    pairs = torch.eye(len(image), dtype=torch.bool)
    same = pairs if same is None else same | pairs
    targets = same if positives == "ids" else pairs
    if normalize:
        image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
        extra = None if extra is None else F.normalize(extra, dim=1)
    logits = scale * (image @ text.T - margin * pairs.to(image.dtype))
    logits = logits.masked_fill(same & ~targets, float("-inf"))
    of_images, targets_of_images = logits, targets
    if extra is not None:
        of_images = torch.cat((logits, scale * image @ extra.T), 1)
        targets_of_images = torch.cat((targets, targets.new_zeros(len(image), len(extra))), 1)
    losses = sum(
        weight * _soft_cross_entropy(*of_rows, label_smoothing)
        for weight, of_rows in zip(
            direction_weights, ((of_images, targets_of_images), (logits.T, targets.T)), strict=True
        )
        if weight > 0
    )
    losses = losses if weights is None else weights * losses
    return losses.mean() if reduction == "mean" else losses


def _soft_cross_entropy(logits: Tensor, positives: Tensor, label_smoothing: float) -> Tensor:
    def shared(among: Tensor) -> Tensor:
        return among.to(logits.dtype) / among.sum(1, keepdim=True)

    seen = logits > float("-inf")
    targets = (1 - label_smoothing) * shared(positives) + label_smoothing * shared(seen)
    return -(targets * logits.log_softmax(1).masked_fill(~seen, 0.0)).sum(1)
