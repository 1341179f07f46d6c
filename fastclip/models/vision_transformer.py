"""The image tower: a vision transformer.

A picture is cut into patches, each projected linearly to a token; a learned class token comes
first and, after the transformer, is projected into the shared space.

Source: Dosovitskiy et al. 2020, arXiv:2010.11929; CLIP's `ln_pre` and projection from Radford et
al. 2021, arXiv:2103.00020.
"""

import torch
from torch import Tensor, nn

from fastclip.models.config import VisionConfig
from fastclip.models.transformer import Transformer


class VisionTransformer(nn.Module):
    """(B, channels, height, width) pictures to (B, embed_dim) features, not normalised."""

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__()
        width, patch_size = config.width, config.patch_size
        self.image_size = config.image_size
        self.channels = config.channels
        self.conv1 = nn.Conv2d(
            config.channels, width, kernel_size=patch_size, stride=patch_size, bias=False
        )
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(config.num_patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.layers, config.heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, embed_dim) features.

        Raises:
            ValueError: `images` is not (B, channels, *image_size).
        """
        expected = (self.channels, *self.image_size)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images must be (B, {', '.join(map(str, expected))}), "
                             f"got {tuple(images.shape)}")  # fmt: skip
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, num_patches, width)
        class_token = self.class_embedding.expand(len(images), 1, -1).to(patches.dtype)
        tokens = torch.cat([class_token, patches], dim=1) + self.positional_embedding
        tokens = self.transformer(self.ln_pre(tokens))
        return self.ln_post(tokens[:, 0]) @ self.proj
