"""CLIP: an image tower and a text tower that meet in one space.

The text tower's parameters stand at the top level of the state dict and the image tower's under
`visual`, as in OpenAI's and open_clip's checkpoints: CLIP is the text transformer with an image
tower beside it.

`logit_scale` is learned as a logarithm, starts at 1/0.07 and is kept within [1, 100].

Source: Radford et al. 2021, arXiv:2103.00020, section 2.3 and Figure 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastclip.models.config import ClipConfig
from fastclip.models.text import TextTransformer
from fastclip.models.vision import VisionTransformer

INITIAL_LOGIT_SCALE = 1 / 0.07
MAX_LOGIT_SCALE = 100.0


class CLIP(TextTransformer):
    """A pair of encoders; call it with (images, tokens) for both features and the scale."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(config.text_cfg, config.embed_dim)
        self.config = config
        self.visual = VisionTransformer(config.vision_cfg, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(INITIAL_LOGIT_SCALE)))

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Return (B, embed_dim) features of (B, channels, height, width) floating-point images."""
        features = self.visual(images)
        return F.normalize(features, dim=-1) if normalize else features

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, embed_dim) unit image features, the same of the texts, and the () scale."""
        return (
            self.encode_image(images, normalize=True),
            self.encode_text(tokens, normalize=True),
            self.logit_scale.exp(),
        )

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Bring the scale back into [1, 100]; to be called after each optimiser step."""
        self.logit_scale.clamp_(0.0, math.log(MAX_LOGIT_SCALE))
