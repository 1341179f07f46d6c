"""CLIP's vision transformer.

An image is cut into patches, each projected linearly to a token; a learned class token comes
first and, after the transformer, is projected into the shared space. With `pool_type` "avg" the
mean of the patches takes its place. With an attentional pooler, learned queries read the tokens,
and the first query, or the mean of the others, is projected.

Source: Dosovitskiy et al. 2020, arXiv:2010.11929; CLIP's `ln_pre` and projection from Radford et
al. 2021, arXiv:2103.00020.
"""

import torch
from torch import Tensor, nn

from fastclip.models.parts.attentional_pooler import AttentionalPooler
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.locking import Group
from fastclip.models.parts.patch_dropout import PatchDropout
from fastclip.models.parts.reading import is_observed, read
from fastclip.models.parts.transformer import Transformer, matrix_dtype
from fastclip.models.towers.image_tower import ImageTower
from fastclip.models.towers.vision_transformer.config import VisionConfig


class VisionTransformer(ImageTower):
    """(B, channels, height, width) images to (B, embed_dim) features, not normalised.

    Attributes:
        output_tokens: return the tokens of the patches along with the features.
        proj: (width, embed_dim), or None for features of width `width`.
    """

    positions = VisionConfig.positions

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
                embed_dim, width, config.attn_pooler_heads, config.attn_pooler_queries,
                config.norm_eps,
            )  # fmt: skip
            width = embed_dim
        self.ln_post = LayerNorm(width, config.norm_eps)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, embed_dim) features.

        With `output_tokens`, return also the (B, num_patches, width) tokens of the patches: behind
        the last layer normalisation unless that is of the pooled token, not projected, as
        open_clip does. With an attentional pooler they are the (B, queries - 1, embed_dim) others
        of its queries.

        Raises:
            ValueError: `images` is not (B, channels, *image_size).
            TypeError: `images` is not floating-point.
        """
        self.require_images(images)
        pooled, patches = self._pool(self._embed(images))
        if self.proj is not None:
            pooled = pooled @ self.proj.to(pooled.dtype)
        return (pooled, patches) if self.output_tokens else pooled

    def patch_tokens(self, images: Tensor) -> Tensor:
        """See `ImageTower.patch_tokens`: behind the last layer normalisation, as in `forward`.

        With an attentional pooler, they are what its queries read.
        """
        self.require_images(images)
        return self._read_all(self._embed(images))[:, 1:]

    def become_sequence_first(self) -> None:
        self.transformer.become_sequence_first()

    def _embed(self, images: Tensor) -> Tensor:
        """The (B, 1 + num_patches, width) tokens that go into the transformer."""
        patches = self.conv1(images.to(matrix_dtype(self.conv1)))
        patches = patches.flatten(2).transpose(1, 2)  # (B, num_patches, width)
        class_token = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        tokens = torch.cat([class_token, patches], dim=1)
        tokens = tokens + self.positional_embedding.to(tokens.dtype)
        return self.ln_pre(self.patch_dropout(tokens))

    def _pool(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """The (B, width) that is projected, and the patches where somebody reads them."""
        if self.attn_pool is not None:
            tokens = self.ln_post(self.attn_pool(self._read_all(tokens)))
            others = tokens[:, 1:]
            return tokens[:, 0] if self.pool_type == "tok" else others.mean(dim=1), others
        reads_one = self.pool_type == "tok" and not self.output_tokens
        if reads_one and not is_observed(tokens, self.transformer, self.ln_post):
            return self.ln_post(read(self.transformer, tokens, read_at=0)), None
        tokens = self._read_all(tokens)
        patches = tokens[:, 1:]
        pooled = tokens[:, 0] if self.pool_type == "tok" else patches.mean(dim=1)
        return self.ln_post(pooled) if self.final_ln_after_pool else pooled, patches

    def _read_all(self, tokens: Tensor) -> Tensor:
        """The (B, 1 + num_patches, width) tokens that come out, normalised unless that is later."""
        tokens = read(self.transformer, tokens)
        is_later = self.final_ln_after_pool or self.attn_pool is not None
        return tokens if is_later else self.ln_post(tokens)

    def groups(self) -> list[Group]:
        *blocks, last = self.transformer.resblocks
        stem = [self.conv1, self.class_embedding, self.positional_embedding, self.ln_pre]
        top = [] if self.proj is None else [[self.proj]]
        pooler = [] if self.attn_pool is None else [self.attn_pool]
        return [stem, *([block] for block in blocks), [last, *pooler, self.ln_post], *top]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.transformer.grad_checkpointing = enable
