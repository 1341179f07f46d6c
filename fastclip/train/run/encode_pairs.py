"""Encodes the pairs of a step with a model that is not trained: a teacher or an encoder of keys."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from fastclip.models.padding import without_padding
from fastclip.train.step.model_call import call


def encode_pairs(
    model: nn.Module,
    pairs: Iterable[tuple[Tensor, Tensor]],
    prepare: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager],
) -> dict[str, Tensor]:
    """Encode pairs micro-batch by micro-batch, without a gradient.

    Args:
        model: on its device, in the mode (training or evaluation) that is wanted.
        pairs: micro-batches of images, uint8 on the host, and tokens.
        prepare: turns pixels into the images that the model takes.
        autocast: makes the context of a forward.

    Returns:
        image_features and text_features, (B, D), of all pairs in their order, and logit_scale.
    """
    with torch.no_grad(), autocast():
        found = [
            call(model, prepare(images), without_padding(model, texts), captions="none")
            for images, texts in pairs
        ]
    of_all = {
        name: torch.cat([of[name] for of in found]) for name in ("image_features", "text_features")
    }
    return of_all | {"logit_scale": found[0]["logit_scale"]}
