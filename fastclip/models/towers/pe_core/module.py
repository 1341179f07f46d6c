"""Perception Encoder's core vision transformer.

    tokens    [class, patches] + positions, normalised; blocks whose queries and keys are rotated by
              the place of their patch; the class token has no place
    features  projection of what a learned query reads from all tokens by attention

Modules are named as in timm, whose names open_clip's PE-Core checkpoints have.

Source: Bolya et al. 2025, arXiv:2504.13181.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.parts.latent_pool import AttentionPoolLatent
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices, run_layers
from fastclip.models.parts.locking import Group
from fastclip.models.parts.patch_dropout import kept_patches
from fastclip.models.parts.rotary import Rotation, grid_rotation
from fastclip.models.parts.timm_mlp import Mlp
from fastclip.models.parts.timm_patches import PatchEmbed
from fastclip.models.towers.patch_tower import PatchTower
from fastclip.models.towers.pe_core.config import PECoreConfig

POOL_HEADS = 8
POOL_MLP_RATIO = 4
INITIAL_STD = 0.02


class RotarySelfAttention(nn.Module):
    """Multi-head self-attention on (B, num_prefix + patches, width), with rotary positions."""

    def __init__(self, width: int, heads: int, num_prefix: int) -> None:
        super().__init__()
        self.heads = heads
        self.num_prefix = num_prefix
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self._rotated(q, rotation), self._rotated(k, rotation)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _rotated(self, x: Tensor, rotation: Rotation) -> Tensor:
        if self.num_prefix == 0:
            return rotation.of(x)
        prefix, patches = x.tensor_split((self.num_prefix,), dim=2)
        return torch.cat((prefix, rotation.of(patches)), dim=2)


class Block(nn.Module):
    def __init__(self, config: PECoreConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.norm1 = LayerNorm(width, eps)
        self.attn = RotarySelfAttention(width, config.heads, config.num_prefix)
        self.norm2 = LayerNorm(width, eps)
        self.mlp = Mlp(width, int(width * config.mlp_ratio), "gelu")

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        x = x + self.attn(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))


class PECoreTrunk(nn.Module):
    """Encodes (B, 3, height, width) images as (B, embed_dim) features."""

    def __init__(self, config: PECoreConfig, embed_dim: int) -> None:
        super().__init__()
        rows, columns = config.grid_size
        width, eps, self.num_prefix = config.width, config.norm_eps, config.num_prefix
        self.config = config
        self.grad_checkpointing = False
        self.patch_embed = PatchEmbed(config.patch_size, width, bias=False)
        if config.class_token:
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, self.num_prefix + rows * columns, width))
        self.norm_pre = LayerNorm(width, eps)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = LayerNorm(width, eps)
        self.attn_pool = AttentionPoolLatent(width, POOL_HEADS, POOL_MLP_RATIO * width, eps, "gelu")
        self.head = nn.Linear(width, embed_dim)
        self._initialize()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.attn_pool(self.forward_features(images)))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the (B, num_prefix + patches, width) tokens before pooling, like timm's method."""
        return self.norm(self.run_blocks(self.embed(images)))

    def embed(self, images: Tensor) -> Tensor:
        """Return the (B, num_prefix + patches, width) tokens, before patch dropout."""
        x = self.patch_embed(images)
        if self.num_prefix:
            x = torch.cat((self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), x), dim=1)
        return self.norm_pre(x + self.pos_embed.to(x.dtype))

    def run_blocks(self, x: Tensor) -> Tensor:
        """Return the tokens after the last block, not normalised."""
        x, rotation = self.left_of(x)
        for block in self.blocks:
            x = self.run_block(block, x, rotation)
        return x

    def run_block(self, block: nn.Module, x: Tensor, rotation: Rotation) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, rotation, use_reentrant=False)
        return block(x, rotation)

    def left_of(self, x: Tensor) -> tuple[Tensor, Rotation]:
        """Apply patch dropout; return the remaining tokens and the rotation of their patches."""
        config = self.config
        rotation = grid_rotation(
            config.grid_size, config.reference_grid, config.first_place,
            config.width // config.heads, x.device,
        )  # fmt: skip
        if not self.training or config.patch_dropout == 0:
            return x, rotation
        prefix, patches = x.tensor_split((self.num_prefix,), dim=1)
        kept = kept_patches(patches, config.patch_dropout)
        patches = patches.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
        return torch.cat((prefix, patches), dim=1), rotation.at(kept)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.pos_embed, std=INITIAL_STD)
        if self.num_prefix:
            nn.init.normal_(self.cls_token, std=INITIAL_STD)
        nn.init.normal_(self.attn_pool.latent, std=self.config.width**-0.5)
        with torch.no_grad():
            for depth, block in enumerate(self.blocks, 1):
                for matrix in (block.attn.proj.weight, block.mlp.fc2.weight):
                    matrix.mul_((2.0 * depth) ** -0.5)


class PECore(PatchTower):
    """PE-Core's tower: encodes (B, 3, height, width) images as (B, embed_dim) features.

    The features are not normalised.
    """

    def __init__(self, config: PECoreConfig, embed_dim: int) -> None:
        super().__init__(config.image_size, 3, embed_dim, config.output_tokens)
        self.positions = config.positions
        self.grid_size = config.grid_size
        self.patch_size = (config.patch_size, config.patch_size)
        self.num_prefix = config.num_prefix
        self.trunk = PECoreTrunk(config, embed_dim)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features.

        With `output_tokens`, return also the (B, num_patches, width) tokens of the patches.

        Raises:
            ValueError: `images` is not (B, 3, *image_size).
            TypeError: `images` is not floating-point.
        """
        self.require_images(images)
        tokens = self.trunk.forward_features(images)
        features = self.trunk.head(self.trunk.attn_pool(tokens))
        return (features, tokens[:, self.num_prefix :]) if self.output_tokens else features

    def _embeds(self, images: Tensor) -> Tensor:
        return self.trunk.embed(images)

    def _read(self, tokens: Tensor) -> Tensor:
        return self.trunk.run_blocks(tokens)

    def _read_layers(
        self, tokens: Tensor, indices: Indices, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        tokens, rotation = self.trunk.left_of(tokens)

        def run(block: nn.Module, x: Tensor) -> Tensor:
            return self.trunk.run_block(block, x, rotation)

        return run_layers(self.trunk.blocks, run, tokens, indices, stop_early)

    def _last_norm(self, tokens: Tensor) -> Tensor:
        return self.trunk.norm(tokens)

    def _features(self, tokens: Tensor) -> Tensor:
        return self.trunk.head(self.trunk.attn_pool(self.trunk.norm(tokens)))

    def groups(self) -> list[Group]:
        trunk = self.trunk
        stem: Group = [trunk.patch_embed, trunk.pos_embed, trunk.norm_pre]
        if trunk.num_prefix:
            stem.append(trunk.cls_token)
        *blocks, last = trunk.blocks
        readout = [trunk.attn_pool, trunk.head]
        return [stem, *([block] for block in blocks), [last, trunk.norm], readout]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.trunk.grad_checkpointing = enable
