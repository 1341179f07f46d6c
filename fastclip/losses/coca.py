"""CoCaLoss: the contrastive loss and the cross-entropy of captions, with open_clip's signature."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastclip.distributed.agreement import agree
from fastclip.distributed.groups import find_group
from fastclip.distributed.weighted_mean import weighted_mean
from fastclip.losses.clip import ClipLoss
from fastclip.rectangle import Rectangle


class CoCaLoss(ClipLoss):
    """Drop-in for `open_clip.CoCaLoss`, without the logits of pairs or of captions.

        caption_loss = mean over the tokens of all captions of -log softmax(logits)_label

    The loss is called with the outputs of a `CoCa`, by name. The logits of captions,
    (B, T, vocabulary), are the largest tensor of such a model; if the model is called with
    `captions="losses"`, it never holds them, and the loss is the same. Over several ranks the loss
    is over all their pairs and all their tokens. open_clip's loss is the mean of the ranks' means,
    in which a token counts more if its rank has few tokens.

    Args:
        caption_loss_weight: factor of the caption loss; 2.0 in open_clip's trainer.
        clip_loss_weight: factor of the contrastive loss, which is not computed if it is 0; 1.0 in
            open_clip's trainer.
        pad_id: the label of padding, which the caption loss leaves out.
        local_loss, gather_with_grad, cache_labels, rank, world_size, use_horovod: as `ClipLoss`.
        options: further arguments of `ClipLoss`, by name.

    Raises:
        TypeError, ValueError, NotImplementedError: as `ClipLoss`.

    Source:
        Yu et al. 2022 (CoCa), arXiv:2205.01917, section 3.2; open_clip 3.3.0, `CoCaLoss`.

    Example:
        >>> loss = fastclip.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)
        >>> contrastive, caption = loss(**model(images, tokens, captions="losses"))
        >>> (contrastive + caption).backward()
    """

    def __init__(
        self,
        caption_loss_weight: float,
        clip_loss_weight: float,
        pad_id: int = 0,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        use_horovod: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            local_loss, gather_with_grad, cache_labels, rank, world_size, use_horovod, **options
        )
        self.caption_loss_weight = caption_loss_weight
        self.clip_loss_weight = clip_loss_weight
        self.pad_id = pad_id

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logits: Tensor | None = None,
        labels: Tensor | None = None,
        logit_scale: float | Tensor | None = None,
        output_dict: bool = False,
        *,
        logit_bias: Tensor | None = None,
        caption_losses: Tensor | None = None,
        caption_tokens: Tensor | None = None,
        **of_batch: Any,
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """Return both weighted losses, or {"contrastive_loss", "caption_loss"} if `output_dict`.

        Args:
            image_features, text_features, logit_scale, logit_bias: see `ContrastiveLoss.forward`.
            logits, labels: (B, T, vocabulary) and (B, T) int64, of this rank; or instead of both
            caption_losses, caption_tokens: (B,) and (B,), the sum of the cross-entropies of each
                caption's tokens, and their number.
            of_batch: ids and weights of the pairs, as `ClipLoss` takes them.

        Raises:
            TypeError: `logit_scale` is missing; not exactly one of (`logits`, `labels`) and
                (`caption_losses`, `caption_tokens`) is given; or `return_stats` is given.
            ValueError: a label on the CPU is not a token of the logits. For a label on a GPU,
                PyTorch's own check fails.
        """
        if logit_scale is None:
            raise TypeError("logit_scale is missing")
        if of_batch.get("return_stats"):
            raise TypeError("CoCaLoss has no return_stats: call ClipLoss with the features")
        has_logits = logits is not None and labels is not None
        has_losses = caption_losses is not None and caption_tokens is not None
        if has_logits == has_losses:
            raise TypeError("give logits and labels, or caption_losses and caption_tokens")
        if has_logits:
            rows, labels = logits.flatten(0, 1), labels.flatten()
            _require_labels(labels, rows.shape[1], self.pad_id)
            caption_losses = F.cross_entropy(
                rows, labels, ignore_index=self.pad_id, reduction="none"
            )
            caption_tokens = labels != self.pad_id
        dtype = torch.promote_types(caption_losses.dtype, torch.float32)
        group = find_group(self.rank, self.world_size, self.process_group)
        # This comes first, because in it the ranks agree on what they compute.
        if self.clip_loss_weight:
            contrastive = self.clip_loss_weight * super().forward(
                image_features, text_features, logit_scale, logit_bias, **of_batch
            )
        else:
            contrastive = torch.zeros((), device=image_features.device)
            if group is not None:
                own = Rectangle(image_features, text_features, logit_scale, None)
                agree(group, "CoCaLoss without clip_loss", self.schedule, own, logit_scale, 0.0)
        caption = weighted_mean(caption_losses.sum(dtype=dtype), caption_tokens.sum(), group)
        caption = self.caption_loss_weight * caption
        if output_dict:
            return {"contrastive_loss": contrastive, "caption_loss": caption}
        return contrastive, caption

    def extra_repr(self) -> str:
        weights = f"{self.caption_loss_weight}, {self.clip_loss_weight}, pad_id={self.pad_id}"
        return f"{weights}, {super().extra_repr()}"


def _require_labels(labels: Tensor, num_tokens: int, pad_id: int) -> None:
    """Raise unless labels on the CPU are tokens with logits; reading a GPU's would take time."""
    asked = labels[labels != pad_id] if labels.device.type == "cpu" else labels[:0]
    if asked.numel() == 0:
        return
    least, largest = (int(value) for value in asked.aminmax())
    if least < 0 or largest >= num_tokens:
        raise ValueError(
            f"labels must be tokens from 0 to {num_tokens - 1:,}, because there are logits of "
            f"{num_tokens:,} tokens, got {least if least < 0 else largest:,}"
        )
