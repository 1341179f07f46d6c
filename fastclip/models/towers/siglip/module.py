"""SigLIP's vision transformer: no class token; a learned query reads the patches by attention.

    features = attention of a probe over the tokens (`parts/latent_pool.py`)

Modules are named as in timm, whose names open_clip's SigLIP checkpoints have (`trunk.blocks.0`,
`trunk.attn_pool.latent`).

Source: Zhai et al. 2023, arXiv:2303.15343; Zhai et al. 2021, arXiv:2106.04560 (the readout);
initialisation as in big_vision: Xavier for matrices, positions of variance 1 / width.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.parts.latent_pool import AttentionPoolLatent
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices, run_layers
from fastclip.models.parts.locking import Group
from fastclip.models.parts.patch_dropout import PatchDropout
from fastclip.models.parts.timm_attention import SelfAttention
from fastclip.models.parts.timm_mlp import Mlp
from fastclip.models.parts.timm_patches import PatchEmbed
from fastclip.models.towers.patch_config import PatchTowerConfig
from fastclip.models.towers.patch_tower import PatchTower
from fastclip.models.towers.siglip.config import SiglipVisionConfig


class Block(nn.Module):
    """Attention, then an MLP on each token, each added to a (B, T, width) stream.

    Args:
        config: the tower's configuration, of which the block uses `width`, `heads`, `mlp_ratio`,
            `norm_eps` and `activation`.
    """

    def __init__(self, config: PatchTowerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = LayerNorm(width, config.norm_eps)
        self.attn = SelfAttention(width, config.heads)
        self.norm2 = LayerNorm(width, config.norm_eps)
        self.mlp = Mlp(width, int(width * config.mlp_ratio), config.activation)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        # Without a mask only the tokens are passed, so that a replaced attention need not take one.
        masks = () if attn_mask is None else (attn_mask,)
        x = x + self.attn(self.norm1(x), *masks)
        return x + self.mlp(self.norm2(x))


class SiglipTrunk(nn.Module):
    """Encodes (B, 3, height, width) images as (B, num_patches, width), pooled to (B, width)."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        rows, columns = config.grid_size
        self.grad_checkpointing = False
        self.patch_embed = PatchEmbed(config.patch_size, config.width)
        self.pos_embed = nn.Parameter(torch.empty(1, rows * columns, config.width))
        self.patch_drop = PatchDropout(config.patch_dropout, num_prefix=0)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = LayerNorm(config.width, config.norm_eps)
        self.attn_pool = AttentionPoolLatent(
            config.width, config.heads, int(config.width * config.mlp_ratio), config.norm_eps,
            config.activation,
        )  # fmt: skip
        nn.init.normal_(self.pos_embed, std=config.width**-0.5)
        initialize(self)

    def forward(
        self, images: Tensor, output_tokens: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        tokens = self.forward_features(images)
        pooled = self.attn_pool(tokens)
        return (pooled, tokens) if output_tokens else pooled

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the (B, num_patches, width) tokens before pooling, like timm's method."""
        return self.norm(self.run_blocks(self.embed(images)))

    def embed(self, images: Tensor) -> Tensor:
        """Return the (B, num_patches, width) tokens that go into the first block."""
        patches = self.patch_embed(images)
        return self.patch_drop(patches + self.pos_embed.to(patches.dtype))

    def run_blocks(self, x: Tensor) -> Tensor:
        """Return the (B, num_patches, width) tokens after the last block, not normalised."""
        for block in self.blocks:
            x = self.run_block(block, x)
        return x

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)


def initialize(trunk: nn.Module) -> None:
    """Draw the matrices of a trunk of these blocks, and the query that pools its tokens."""
    for module in trunk.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(trunk.attn_pool.latent)


class SiglipVisionTransformer(PatchTower):
    """SigLIP's tower: encodes (B, 3, height, width) images as (B, width) features.

    The features are not normalised.
    """

    positions = SiglipVisionConfig.positions

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__(config.image_size, 3, config.width, config.output_tokens)
        self.grid_size = config.grid_size
        self.patch_size = (config.patch_size, config.patch_size)
        self.trunk = SiglipTrunk(config)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, width) features.

        With `output_tokens`, return also the (B, num_patches, width) tokens from which the features
        are pooled.

        Raises:
            ValueError: `images` is not (B, 3, *image_size).
            TypeError: `images` is not floating-point.
        """
        self.require_images(images)
        return self.trunk(images, self.output_tokens)

    def _embeds(self, images: Tensor) -> Tensor:
        return self.trunk.embed(images)

    def _read(self, tokens: Tensor) -> Tensor:
        return self.trunk.run_blocks(tokens)

    def _read_layers(
        self, tokens: Tensor, indices: Indices, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        return run_layers(self.trunk.blocks, self.trunk.run_block, tokens, indices, stop_early)

    def _last_norm(self, tokens: Tensor) -> Tensor:
        return self.trunk.norm(tokens)

    def _features(self, tokens: Tensor) -> Tensor:
        return self.trunk.attn_pool(self.trunk.norm(tokens))

    def groups(self) -> list[Group]:
        trunk = self.trunk
        *blocks, last = trunk.blocks
        stem = [trunk.patch_embed, trunk.pos_embed]
        return [stem, *([block] for block in blocks), [last, trunk.norm], [trunk.attn_pool]]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.trunk.grad_checkpointing = enable
