"""TIPS's vision transformer, which is DINOv2's with two class tokens.

    tokens    [class 1, patches] + positions; class 2 comes after class 1 and has no position
    block     x = x + gain_1 * attention(norm(x));  x = x + gain_2 * mlp(norm(x))
    features  one of both class tokens after the last norm, without a projection

The first class token was trained with captions from the web, the second with captions that a model
wrote, which describe more of an image's layout. DINOv2 would call the second token a register.

Modules are named as in the published weights, which have DINOv2's names.

Source: Maninis et al. 2025 (TIPS), arXiv:2410.16512, section 3.2; Cao et al. 2026 (TIPSv2),
arXiv:2604.12012; Oquab et al. 2023 (DINOv2), arXiv:2304.07193.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices, run_layers
from fastclip.models.parts.locking import Group
from fastclip.models.parts.patch_dropout import PatchDropout
from fastclip.models.parts.swiglu import SwiGLU
from fastclip.models.parts.timm_attention import SelfAttention
from fastclip.models.parts.timm_mlp import Mlp
from fastclip.models.parts.timm_patches import PatchEmbed
from fastclip.models.parts.transformer import LayerScale
from fastclip.models.towers.patch_tower import PatchTower
from fastclip.models.towers.tips.config import CLASS_TOKENS, TipsVisionConfig

INITIAL_STD = 0.02


class Block(nn.Module):
    def __init__(self, config: TipsVisionConfig) -> None:
        super().__init__()
        width, hidden, gain = config.width, config.hidden_width, config.ls_init_value
        self.norm1 = LayerNorm(width, config.norm_eps)
        self.attn = SelfAttention(width, config.heads)
        self.ls1 = LayerScale(width, gain)
        self.norm2 = LayerNorm(width, config.norm_eps)
        self.mlp = SwiGLU(width, hidden) if config.swiglu else Mlp(width, hidden, "gelu")
        self.ls2 = LayerScale(width, gain)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class TipsVisionTransformer(PatchTower):
    """Encodes (B, 3, height, width) images, with pixels from 0 to 1, as (B, width) features.

    Attributes:
        feature_token: the class token that becomes the feature, as in the configuration.
    """

    positions = TipsVisionConfig.positions
    num_prefix = len(CLASS_TOKENS)

    def __init__(self, config: TipsVisionConfig) -> None:
        super().__init__(config.image_size, 3, config.width, config.output_tokens)
        width = config.width
        self.grid_size = config.grid_size
        self.patch_size = (config.patch_size, config.patch_size)
        self.feature_token = config.feature_token
        self.grad_checkpointing = False
        rows, columns = config.grid_size
        self.patch_embed = PatchEmbed(config.patch_size, width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.register_tokens = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + rows * columns, width))
        self.patch_drop = PatchDropout(config.patch_dropout, self.num_prefix)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = LayerNorm(width, config.norm_eps)
        self._initialize()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, width) features: the class token that `feature_token` names, not normalised.

        With `output_tokens`, return also the (B, num_patches, width) tokens of the patches, after
        the last norm.

        Raises:
            ValueError: `images` is not (B, 3, *image_size).
            TypeError: `images` is not floating-point.
        """
        tokens = self._tokens(images)
        features = tokens[:, CLASS_TOKENS.index(self.feature_token)]
        return (features, tokens[:, self.num_prefix :]) if self.output_tokens else features

    def class_tokens(self, images: Tensor) -> Tensor:
        """Return both class tokens of each image, (B, 2, width), "alt_text" first.

        Either can be compared with the features of texts.

        Args:
            images: (B, 3, height, width), floating-point.

        Raises:
            ValueError, TypeError: see `forward`.

        Example:
            alt_text, synthetic = F.normalize(model.visual.class_tokens(images), dim=-1).unbind(1)
        """
        return self._tokens(images)[:, : self.num_prefix]

    def _tokens(self, images: Tensor) -> Tensor:
        self.require_images(images)
        return self._last_norm(self._read(self._embeds(images)))

    def _embeds(self, images: Tensor) -> Tensor:
        patches = self.patch_embed(images)
        first, second = (
            token.to(patches.dtype).expand(len(patches), -1, -1)
            for token in (self.cls_token, self.register_tokens)
        )
        placed = torch.cat((first, patches), dim=1) + self.pos_embed.to(patches.dtype)
        return self.patch_drop(torch.cat((placed[:, :1], second, placed[:, 1:]), dim=1))

    def _read(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = self._run(block, tokens)
        return tokens

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def _read_layers(
        self, tokens: Tensor, indices: Indices, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        return run_layers(self.blocks, self._run, tokens, indices, stop_early)

    def _last_norm(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens)

    def _features(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens)[:, CLASS_TOKENS.index(self.feature_token)]

    def groups(self) -> list[Group]:
        *blocks, last = self.blocks
        stem: Group = [self.patch_embed, self.cls_token, self.register_tokens, self.pos_embed]
        return [stem, *([block] for block in blocks), [last, self.norm]]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)
        for tokens in (self.cls_token, self.register_tokens, self.pos_embed):
            nn.init.normal_(tokens, std=INITIAL_STD)
