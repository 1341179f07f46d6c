"""CLIP's vision transformer.

An image is cut into patches, and each patch is projected linearly to a token. A learned class token
comes first and, after the transformer, is projected into the shared space. With `pool_type` "avg",
the mean of the patches' tokens is projected instead. With an attentional pooler, learned queries
read the tokens, and the result of the first query, or the mean of the others, is projected.

Source: Dosovitskiy et al. 2020, arXiv:2010.11929; CLIP's `ln_pre` and projection from Radford et
al. 2021, arXiv:2103.00020.
"""

import torch
from torch import Tensor, nn

from fastclip.models.parts.attentional_pooler import AttentionalPooler
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices
from fastclip.models.parts.locking import Group
from fastclip.models.parts.patch_dropout import PatchDropout
from fastclip.models.parts.reading import is_observed, read, read_layers
from fastclip.models.parts.transformer import Transformer, matrix_dtype
from fastclip.models.towers.patch_tower import PatchTower
from fastclip.models.towers.vision_transformer.config import VisionConfig


class VisionTransformer(PatchTower):
    """Encodes (B, channels, height, width) images as (B, embed_dim) features, not normalised.

    Attributes:
        output_tokens: whether a call returns the tokens of the patches along with the features.
        proj: (width, embed_dim), or None for features of width `width`.
    """

    positions = VisionConfig.positions
    num_prefix = positions.num_before

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__(config.image_size, config.channels, embed_dim, config.output_tokens)
        width, patch_size = config.width, config.patch_size
        self.patch_size = (patch_size, patch_size)
        self.grid_size = config.grid_size
        self.pool_type = config.pool_type
        self.final_ln_after_pool = config.final_ln_after_pool
        self.conv1 = nn.Conv2d(
            config.channels, width, kernel_size=patch_size, stride=patch_size, bias=False
        )
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(config.num_patches + 1, width))
        self.patch_dropout = PatchDropout(config.patch_dropout, num_prefix=1)
        self.ln_pre = nn.Identity() if config.no_ln_pre else LayerNorm(width, config.norm_eps)
        self.transformer = Transformer(
            width, config.layers, config.heads, mlp_ratio=config.mlp_ratio,
            activation=config.activation, norm_eps=config.norm_eps,
            ls_init_value=config.ls_init_value,
            num_tokens=None if config.patch_dropout else config.num_patches + 1,
        )  # fmt: skip
        self.attn_pool: AttentionalPooler | None = None
        if config.attentional_pool:
            self.attn_pool = AttentionalPooler(
                embed_dim, width, config.attn_pooler_heads, config.attn_pooler_queries
            )
            width = embed_dim
        self.ln_post = LayerNorm(width, config.norm_eps)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features.

        With `output_tokens`, return also the (B, num_patches, width) tokens of the patches, as in
        open_clip: not projected, and after the last layer normalisation unless it only applies to
        the pooled token. With an attentional pooler, return instead the (B, queries - 1, embed_dim)
        results of all queries but the first.

        Raises:
            ValueError: `images` is not (B, channels, *image_size).
            TypeError: `images` is not floating-point.
        """
        self.require_images(images)
        tokens = self._embeds(images)
        if self._reads_one(tokens):
            return self._project(self.ln_post(read(self.transformer, tokens, read_at=0)))
        pooled, patches = self._pool(self._read(tokens))
        features = self._project(pooled)
        return (features, patches) if self.output_tokens else features

    @property
    def reads_normed(self) -> bool:
        return not (self.final_ln_after_pool or self.attn_pool is not None)

    def become_sequence_first(self) -> None:
        self.transformer.become_sequence_first()

    def _embeds(self, images: Tensor) -> Tensor:
        """The (B, 1 + num_patches, width) tokens that go into the transformer."""
        patches = self.conv1(images.to(matrix_dtype(self.conv1)))
        patches = patches.flatten(2).transpose(1, 2)  # (B, num_patches, width)
        class_token = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        tokens = torch.cat([class_token, patches], dim=1)
        tokens = tokens + self.positional_embedding.to(tokens.dtype)
        return self.ln_pre(self.patch_dropout(tokens))

    def _reads_one(self, tokens: Tensor) -> bool:
        """Whether the last block may compute the class token alone."""
        reads_one = self.pool_type == "tok" and not self.output_tokens and self.attn_pool is None
        return reads_one and not is_observed(tokens, self.transformer, self.ln_post)

    def _read(self, tokens: Tensor) -> Tensor:
        return read(self.transformer, tokens)

    def _read_layers(
        self, tokens: Tensor, indices: Indices, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        return read_layers(self.transformer, tokens, None, indices, stop_early)

    def _last_norm(self, tokens: Tensor) -> Tensor:
        if self.attn_pool is not None:
            raise ValueError(
                "tokens cannot be normalised: the tower's last normalisation comes after its "
                "attentional pooler"
            )
        return self.ln_post(tokens)

    def _pool(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The (B, width) to be projected, and the tokens that `output_tokens` returns.

        With an attentional pooler, these tokens are the results of all its queries but the first.
        """
        if self.attn_pool is not None:
            read_out = self.ln_post(self.attn_pool(tokens))
            others = read_out[:, 1:]
            return read_out[:, 0] if self.pool_type == "tok" else others.mean(dim=1), others
        tokens = self.ln_post(tokens) if self.reads_normed else tokens
        patches = tokens[:, 1:]
        pooled = tokens[:, 0] if self.pool_type == "tok" else patches.mean(dim=1)
        return self.ln_post(pooled) if self.final_ln_after_pool else pooled, patches

    def _project(self, pooled: Tensor) -> Tensor:
        return pooled if self.proj is None else pooled @ self.proj.to(pooled.dtype)

    def _features(self, tokens: Tensor) -> Tensor:
        return self._project(self._pool(tokens)[0])

    def groups(self) -> list[Group]:
        *blocks, last = self.transformer.resblocks
        stem = [self.conv1, self.class_embedding, self.positional_embedding, self.ln_pre]
        top = [] if self.proj is None else [[self.proj]]
        pooler = [] if self.attn_pool is None else [self.attn_pool]
        return [stem, *([block] for block in blocks), [last, *pooler, self.ln_post], *top]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.transformer.grad_checkpointing = enable
