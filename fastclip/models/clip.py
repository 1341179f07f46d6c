"""CLIP: an image tower and a text tower with features in one shared space.

The text tower's parameters stand at the top level of the state dict and the image tower's under
`visual`, as in OpenAI's and open_clip's checkpoints: CLIP is the text transformer with an image
tower next to it.

Source: Radford et al. 2021, arXiv:2103.00020, section 2.3 and Figure 3.
"""

from typing import Any

import torch
from torch import Tensor

from fastclip.models.clip_config import ClipConfig
from fastclip.models.contrastive_model import ContrastiveModel, TowerOutput
from fastclip.models.parts.layers import Intermediates
from fastclip.models.parts.transformer import matrix_dtype
from fastclip.models.towers.text.module import TextTower


class CLIP(ContrastiveModel, TextTower):
    """An image and a text encoder; `model(images, tokens)` returns both features and the scale.

    Example:
        >>> isinstance(fastclip.create_model("ViT-B-32"), fastclip.CLIP)
        True
    """

    def __init__(self, config: ClipConfig, output_dict: bool = False) -> None:
        TextTower.__init__(self, config.text_cfg, config.embed_dim)
        self.config = config
        self.visual = config.vision_cfg.build(config.embed_dim)
        self._add_scale(
            config.init_logit_scale, config.init_logit_bias, output_dict,
            config.nonscalar_logit_scale,
        )  # fmt: skip

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the image tower's matrices."""
        return matrix_dtype(self.visual)

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the text tower except for its last `unlocked_layers`; see `text_groups`."""
        self.lock_text_groups(unlocked_layers, freeze_layer_norm)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save the memory of each block's activations by computing them again in the backward."""
        self.visual.set_grad_checkpointing(enable)
        self.transformer.grad_checkpointing = enable

    def _text_features(self, text: Tensor) -> TowerOutput:
        return self.text_features(text)

    def _text_intermediates(
        self, text: Tensor, stop_early: bool, intermediates_only: bool, **settings: Any
    ) -> Intermediates:
        # As in open_clip: CLIP runs all layers if features are asked for, CustomTextCLIP does not.
        stop_early = stop_early and intermediates_only
        return self.text_intermediates(
            text, stop_early=stop_early, intermediates_only=intermediates_only, **settings
        )
