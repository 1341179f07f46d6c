"""Other libraries' fused losses for GPUs, called as their users call them.

inf-cl             `cal_flash_loss`, once per direction
memeff             its module; it has no gradient for the temperature, so the gradient of
                   logit_scale is zero; its own rescaling of gradients is turned off
cut-cross-entropy  `linear_cross_entropy`, once per direction, without gradient filtering
liger-kernel       `LigerFusedLinearCrossEntropyLoss`, once per direction
siglip-kernel      `fused_siglip_loss`
"""

from collections.abc import Callable

import torch
from torch import Tensor


def inf_cl() -> Callable[..., Tensor]:
    from inf_cl import cal_flash_loss

    def loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
        image_loss = cal_flash_loss(image_features, text_features, scale=logit_scale)
        text_loss = cal_flash_loss(text_features, image_features, scale=logit_scale)
        return (image_loss.mean() + text_loss.mean()) / 2

    return loss


def memeff() -> Callable[..., Tensor]:
    from memeff import MemoryEfficientCLIPLoss

    modules = {}

    def loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
        # The temperature is a Python number; reading it once avoids waiting in each step.
        if id(logit_scale) not in modules:
            modules[id(logit_scale)] = MemoryEfficientCLIPLoss(
                temperature=1.0 / logit_scale.item(), normalized_inputs=True, stable=False
            )
        value = modules[id(logit_scale)](image_features, text_features)
        return value + 0.0 * logit_scale

    return loss


def cut_cross_entropy() -> Callable[..., Tensor]:
    from cut_cross_entropy import linear_cross_entropy

    def one_direction(rows: Tensor, cols: Tensor, labels: Tensor) -> Tensor:
        return linear_cross_entropy(rows, cols, labels, filter_eps=None)

    return _both_directions(one_direction)


def liger() -> Callable[..., Tensor]:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    fused = LigerFusedLinearCrossEntropyLoss()
    return _both_directions(lambda rows, cols, labels: fused(cols, rows, labels))


def _both_directions(one_direction: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
        labels = torch.arange(len(image_features), device=image_features.device)
        scaled = (
            (logit_scale * x).to(x.dtype).contiguous() for x in (image_features, text_features)
        )
        of_images, of_texts = scaled
        image_loss = one_direction(of_images, text_features.contiguous(), labels)
        return (image_loss + one_direction(of_texts, image_features.contiguous(), labels)) / 2

    return loss


def siglip_kernel() -> Callable[..., Tensor]:
    from siglip_kernel import fused_siglip_loss

    def loss(
        image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor
    ) -> Tensor:
        return fused_siglip_loss(image_features, text_features, logit_scale.log(), logit_bias)

    return loss
