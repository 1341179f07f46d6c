"""Wraps the losses of the family so that a training step can call them like any other loss."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fastclip.losses.coca import CoCaLoss
from fastclip.losses.distill_clip import DistillClipLoss
from fastclip.losses.matryoshka import MatryoshkaClipLoss
from fastclip.losses.queue import QueueLoss
from fastclip.losses.sog_clr import SogCLRLoss

Value = Tensor | Mapping[str, Tensor]


class PairLoss(nn.Module):
    """A loss that is called with (image_features, text_features, logit_scale[, logit_bias]).

    The bias is ignored, because adding the same number to all scores does not change these losses.

    Args:
        loss: its parameters, buffers and extra state become this module's.
        call: called with (loss, image_features, text_features, logit_scale, **of_batch). `of_batch`
            is what some losses need besides the features; the step receives it for them by name.
    """

    def __init__(self, loss: nn.Module, call: Callable[..., Value]) -> None:
        super().__init__()
        self.loss = loss
        self._call = call

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **of_batch: Any,
    ) -> Value:
        return self._call(self.loss, image_features, text_features, logit_scale, **of_batch)


def of_pairs(
    loss: nn.Module,
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    ids: Tensor | None = None,
) -> Tensor:
    """Call a loss of two feature matrices, such as a `DCLLoss` or an `InfoLOOBLoss`."""
    return loss(images, texts, logit_scale=logit_scale, ids=ids)


def of_queues(
    loss: QueueLoss,
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    image_keys: Tensor | None = None,
    text_keys: Tensor | None = None,
    ids: Tensor | None = None,
) -> Tensor:
    """Call a symmetric loss with a queue.

    Args:
        image_keys, text_keys: (B, D), made by a `KeyEncoder`; None if the trained encoders make
            the keys too.
    """
    of_images = images if image_keys is None else image_keys.to(images.dtype)
    of_texts = texts if text_keys is None else text_keys.to(texts.dtype)
    return loss(images, of_texts, texts, of_images, logit_scale=logit_scale, ids=ids)


def of_samples(
    loss: SogCLRLoss,
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    indices: Tensor,
    ids: Tensor | None = None,
) -> Tensor:
    """Call a loss that remembers samples.

    Args:
        indices: (B,) int64, which sample each pair is.
    """
    return loss(images, texts, indices, logit_scale, ids=ids)


def of_teacher(
    loss: DistillClipLoss, images: Tensor, texts: Tensor, logit_scale: Tensor, **of_teacher: Any
) -> dict[str, Tensor]:
    """Call a distillation loss, whose terms are the contrastive loss and the loss of the teachers.

    Args:
        of_teacher: the teachers' features and scales under the names of `DistillClipLoss`, and ids.
    """
    return loss(images, texts, logit_scale, output_dict=True, **of_teacher)


def of_prefixes(
    loss: MatryoshkaClipLoss,
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    ids: Tensor | None = None,
) -> dict[str, Tensor]:
    """Call a Matryoshka loss, whose terms are the weighted losses at each length."""
    return loss(images, texts, logit_scale, output_dict=True, ids=ids)


def of_captions(
    loss: CoCaLoss, images: Tensor, texts: Tensor, logit_scale: Tensor, **of_batch: Any
) -> dict[str, Tensor]:
    """Call a CoCa loss, whose terms are the weighted contrastive loss and caption loss.

    Args:
        of_batch: caption_losses and caption_tokens under the names of `CoCaLoss`, and ids.
    """
    return loss(images, texts, logit_scale=logit_scale, output_dict=True, **of_batch)
