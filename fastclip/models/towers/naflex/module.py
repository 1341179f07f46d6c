"""SigLIP 2's NaFlex vision transformer: patches of images of any size, padded and masked.

    tokens    projected patches + positions, which are resized to the grid of each image
    features  attention of a probe over the tokens (`parts/latent_pool.py`)

Attention does not read padding, so that a feature does not depend on the batch's other images. The
tower has the same blocks as SigLIP's. Modules are named as in timm's NaFlexVit, whose names the
checkpoints of open_clip's main branch have (`trunk.embeds.proj`, `trunk.blocks.0`).

Source: Tschannen et al. 2025, arXiv:2502.14786, section 2.4; initialisation as in `siglip`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.utils.checkpoint import checkpoint

from fastclip.models.contrastive_model import Images
from fastclip.models.parts.grid_resize import resized_grid
from fastclip.models.parts.latent_pool import AttentionPoolLatent
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.layers import Indices, Intermediates, run_layers
from fastclip.models.parts.locking import Group
from fastclip.models.parts.transformer import matrix_dtype
from fastclip.models.towers.naflex.config import NaflexConfig
from fastclip.models.towers.naflex.inputs import Patches, of_batch, of_images
from fastclip.models.towers.patch_grid import as_map, require_format
from fastclip.models.towers.patch_tower import PatchTower
from fastclip.models.towers.siglip.module import Block, initialize


class PatchEmbeds(nn.Module):
    """Turns (B, S, patch_size^2 * 3) patches into (B, S, width) tokens with positions."""

    def __init__(self, config: NaflexConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(3 * config.patch_size**2, config.width)
        self.pos_embed = nn.Parameter(torch.empty(1, *config.position_grid, config.width))

    def forward(self, patches: Patches) -> Tensor:
        tokens = self.proj(patches.values.to(matrix_dtype(self.proj)))
        return tokens + self.positions(patches).to(tokens.dtype)

    def positions(self, patches: Patches) -> Tensor:
        """Return (B, S, width) positions, 0 in padding, or (1, S, width) for images of one size."""
        grids, length = patches.grids, patches.values.shape[1]
        different = list(dict.fromkeys(grids))
        tables = [resized_grid(self.pos_embed[0], grid).flatten(0, 1) for grid in different]
        if len(different) == 1 and patches.is_read is None:
            return tables[0][None]
        padded = [nn.functional.pad(table, (0, 0, 0, length - len(table))) for table in tables]
        which = torch.tensor([different.index(grid) for grid in grids], device=padded[0].device)
        return torch.stack(padded)[which]


class NaflexTrunk(nn.Module):
    """Encodes a batch of patches as (B, S, width) tokens and pools them to (B, width)."""

    def __init__(self, config: NaflexConfig) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.embeds = PatchEmbeds(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = LayerNorm(config.width, config.norm_eps)
        self.attn_pool = AttentionPoolLatent(
            config.width, config.heads, int(config.width * config.mlp_ratio), config.norm_eps,
            config.activation,
        )  # fmt: skip
        nn.init.normal_(self.embeds.pos_embed, std=config.width**-0.5)
        initialize(self)

    def forward(self, patches: Patches) -> tuple[Tensor, Tensor]:
        """Return (B, width) features and the (B, S, width) tokens that they are read out of."""
        tokens = self.embeds(patches)
        for block in self.blocks:
            tokens = self.run_block(block, tokens, patches.attn_mask)
        tokens = self.norm(tokens)
        return self.attn_pool(tokens, patches.attn_mask), tokens

    def run_block(self, block: nn.Module, x: Tensor, attn_mask: Tensor | None) -> Tensor:
        masks = () if attn_mask is None else (attn_mask,)
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, *masks, use_reentrant=False)
        return block(x, *masks)


class NaflexVisionTransformer(PatchTower):
    """Encodes images of any size as (B, width) features, not normalised.

    Images are either a batch of patches, as made by `collate_patches` and transformers' processor,
    or (B, 3, H, W) floating-point images of one size, with H and W multiples of `patch_size`.
    """

    def __init__(self, config: NaflexConfig) -> None:
        super().__init__(config.image_size, 3, config.width, config.output_tokens)
        self.grid_size = config.grid_size
        self.patch_size = (config.patch_size, config.patch_size)
        self.trunk = NaflexTrunk(config)

    def forward(self, images: Images) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, width) features.

        With `output_tokens`, return also the (B, S, width) tokens from which the features are
        pooled, set to 0 where the batch is padded.

        Raises:
            ValueError, TypeError: `images` is neither (B, 3, H, W) floating-point images in whole
                patches nor a batch of patches; see `naflex/inputs.py`.
        """
        patches = self._patches(images)
        features, tokens = self.trunk(patches)
        return (features, patches.without_padding(tokens)) if self.output_tokens else features

    def patch_tokens(
        self,
        images: Images,
        layer: int | None = None,
        norm: bool | None = None,
        positions: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See `ImageTower.patch_tokens`; the layers are the tower's blocks.

        For a batch of patches, the result is (B, S, width), 0 where the batch is padded, and with
        `positions` also (B, S, 2), -1 where it is padded. The batch's `pixel_attention_mask` shows
        which places belong to an image.
        """
        patches = self._patches(images)
        last = -1 if layer is None else layer
        tokens, _ = self._run(patches, [last], stop_early=True)
        tokens = self.trunk.norm(tokens) if norm in (None, True) else tokens
        tokens = patches.without_padding(tokens)
        if not positions:
            return tokens
        places = patches.places()
        return tokens, places if isinstance(images, Mapping) else places[0]

    def forward_intermediates(
        self,
        x: Images,
        indices: Indices = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NCHW",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """See `ImageTower.forward_intermediates`; the layers are the tower's blocks.

        For a batch of patches, intermediates are (B, S, width), 0 where the batch is padded.

        Raises:
            ValueError: `output_fmt` is "NCHW" and `x` is a batch of patches, whose images have maps
                of different sizes; see also `ImageTower.forward_intermediates`.
        """
        require_format(output_fmt)
        if output_fmt == "NCHW" and isinstance(x, Mapping):
            raise ValueError(
                f"output_fmt must be 'NLC' for a batch of patches, got {output_fmt!r}: its images "
                "have maps of different sizes"
            )
        patches = self._patches(x)
        tokens, layers = self._run(patches, indices, stop_early)
        if normalize_intermediates:
            layers = [self.trunk.norm(each) for each in layers]
        layers = [patches.without_padding(each) for each in layers]
        if output_fmt == "NCHW":
            layers = [as_map(each, patches.grids[0]) for each in layers]
        output: Intermediates = {"image_intermediates": layers}
        if not intermediates_only:
            normed = self.trunk.norm(tokens)
            output["image_features"] = self.trunk.attn_pool(normed, patches.attn_mask)
        return output

    def _run(
        self, patches: Patches, indices: Indices, stop_early: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """See `run_layers`."""
        trunk, mask = self.trunk, patches.attn_mask
        return run_layers(
            trunk.blocks, lambda block, x: trunk.run_block(block, x, mask),
            trunk.embeds(patches), indices, stop_early,
        )  # fmt: skip

    def _patches(self, images: Images) -> Patches:
        side = self.patch_size[0]
        if isinstance(images, Mapping):
            return of_batch(images, 3 * side**2)
        self.require_images(images)
        return of_images(images, side)

    def require_images(self, images: Tensor) -> None:
        if torch.jit.is_tracing() or isinstance(images, Proxy):
            return  # a recorded graph keeps no checks
        side = self.patch_size[0]
        is_cut = images.ndim == 4 and all(each and each % side == 0 for each in images.shape[2:])
        if not is_cut or images.shape[1] != 3:
            raise ValueError(
                f"images must be (B, 3, H, W) with H and W multiples of {side}, or a batch of "
                f"patches, got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images must be floating-point, got {images.dtype}: standardize the pixels first"
            )

    def groups(self) -> list[Group]:
        trunk = self.trunk
        *blocks, last = trunk.blocks
        return [[trunk.embeds], *([block] for block in blocks), [last, trunk.norm],
                [trunk.attn_pool]]  # fmt: skip

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.trunk.grad_checkpointing = enable
