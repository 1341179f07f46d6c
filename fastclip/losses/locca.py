"""LocCaLoss: a contrastive loss, and the cross-entropy of captions and boxes."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from fastclip.distributed.groups import find_group
from fastclip.distributed.weighted_mean import weighted_mean
from fastclip.losses.clip import ClipLoss
from fastclip.losses.siglip import SigLipLoss

CONTRASTIVE = {"siglip": SigLipLoss, "clip": ClipLoss}


class LocCaLoss(nn.Module):
    """The loss of a `LocCa`: `SigLipLoss` or `ClipLoss`, and the cross-entropy of its decoder.

        caption_loss = mean over the label tokens of all three tasks of -log softmax(logits)_label

    Neither the logits of pairs nor the logits of tokens are held. All tokens count alike, whichever
    task they belong to, so that tasks with more tokens count more. Over several ranks the loss is
    over all their pairs and all their tokens, with exact gradients under DDP's mean.

    Args:
        caption_loss_weight: factor of the caption loss; 1.0, as in SigLIP 2.
        contrastive: "siglip" or "clip", the loss of the pairs.
        options: further arguments of `SigLipLoss` or `ClipLoss`, by name.

    Raises:
        TypeError, ValueError: `contrastive` is unknown, `caption_loss_weight` is negative or not
            finite; or as the contrastive loss.

    Source:
        Tschannen et al. 2025 (SigLIP 2), arXiv:2502.14786, section 2; Wan et al. 2024 (LocCa),
        arXiv:2403.19596, section 3.

    Example:
        >>> terms = fastclip.LocCaLoss()(**model(images, batch))
        >>> sum(terms.values()).backward()
    """

    def __init__(
        self, caption_loss_weight: float = 1.0, contrastive: str = "siglip", **options: Any
    ) -> None:
        super().__init__()
        if contrastive not in CONTRASTIVE:
            choices = tuple(CONTRASTIVE)
            raise ValueError(f"contrastive must be one of {choices}, got {contrastive!r}")
        if not (math.isfinite(caption_loss_weight) and caption_loss_weight >= 0):
            raise ValueError(
                f"caption_loss_weight must be finite and not negative, got {caption_loss_weight!r}"
            )
        self.caption_loss_weight = caption_loss_weight
        self.contrastive = CONTRASTIVE[contrastive](**options)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        *,
        caption_losses: Tensor,
        caption_tokens: Tensor,
        **of_batch: Any,
    ) -> dict[str, Tensor]:
        """Return {"contrastive_loss", "caption_loss"}, () each, which add up to the loss.

        Args:
            image_features, text_features, logit_scale, logit_bias: see `ContrastiveLoss.forward`.
            caption_losses, caption_tokens: (B,) and (B,), the sum of the cross-entropies of a
                sample's tokens, in nats, and their number.
            of_batch: ids of the pairs and, for "clip", weights, as the contrastive loss takes them.

        Raises:
            ValueError: `caption_losses` or `caption_tokens` does not have one number per pair; or
                as the contrastive loss.
        """
        B = len(image_features)
        for name, part in (("caption_losses", caption_losses), ("caption_tokens", caption_tokens)):
            if part.shape != (B,):
                raise ValueError(
                    f"{name} must have shape ({B},), one per pair, got {tuple(part.shape)}"
                )
        pairs = self.contrastive
        # This comes first, because in it the ranks agree on what they compute.
        contrastive = pairs(image_features, text_features, logit_scale, logit_bias, **of_batch)
        group = find_group(pairs.rank, pairs.world_size, pairs.process_group)
        dtype = torch.promote_types(caption_losses.dtype, torch.float32)
        caption = weighted_mean(caption_losses.sum(dtype=dtype), caption_tokens.sum(), group)
        return {
            "contrastive_loss": contrastive,
            "caption_loss": self.caption_loss_weight * caption,
        }

    def extra_repr(self) -> str:
        return f"caption_loss_weight={self.caption_loss_weight}"
