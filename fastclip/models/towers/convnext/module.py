"""ConvNeXt, projected to the shared space.

    block     x + gamma * W2 gelu(W1 norm(depthwise 7 x 7 (x)))
    features  head(norm(mean over the image of the last stage))

All operations between the convolutions work on channels. So maps have the memory format with the
channels last, which a norm and a matrix product read without a copy. Modules are named as in timm,
whose names open_clip's ConvNeXt checkpoints have (`trunk.stages.0.blocks.0.conv_dw`).

Source: Liu et al. 2022, arXiv:2201.03545.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.parts.drop_path import DropPath, rising_rates
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.locking import Group
from fastclip.models.parts.projection_head import projection_head
from fastclip.models.parts.timm_mlp import Mlp
from fastclip.models.parts.transformer import matrix_dtype
from fastclip.models.towers.convnext.config import ConvNextConfig
from fastclip.models.towers.map_tower import MapStage, MapTower

STEM_PATCH = 4
INITIAL_GAMMA = 1e-6
INITIAL_STD = 0.02


class MapNorm(LayerNorm):
    """Layer normalisation over the channels of (B, channels, rows, columns)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block on (B, width, rows, columns) maps; see the formula above."""

    def __init__(self, width: int, norm_eps: float, drop_path: float) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = LayerNorm(width, norm_eps)
        self.mlp = Mlp(width, 4 * width, "gelu")
        self.gamma = nn.Parameter(torch.full((width,), INITIAL_GAMMA))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)))
        return x + self.drop_path((y * self.gamma.to(y.dtype)).permute(0, 3, 1, 2))


class ConvNextStage(nn.Module):
    """Halves the map's sides, except in the first stage, and applies the stage's blocks."""

    def __init__(
        self, width_before: int, width: int, norm_eps: float, drop_paths: list[float]
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        is_first = width_before == width
        self.downsample = (
            nn.Identity()
            if is_first
            else nn.Sequential(
                MapNorm(width_before, norm_eps),
                nn.Conv2d(width_before, width, kernel_size=2, stride=2),
            )
        )
        self.blocks = nn.Sequential(*(Block(width, norm_eps, rate) for rate in drop_paths))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class Readout(nn.Module):
    """Reduces (B, width, rows, columns) maps to (B, width): the mean over the map, normalised."""

    def __init__(self, width: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = LayerNorm(width, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.mean((2, 3)))


class ConvNextTrunk(nn.Module):
    """Encodes (B, 3, height, width) images as (B, width) features, which are not yet projected."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        widths, eps = config.widths, config.norm_eps
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], kernel_size=STEM_PATCH, stride=STEM_PATCH),
            MapNorm(widths[0], eps),
        )
        rates = iter(rising_rates(config.drop_path, sum(config.layers)))
        self.stages = nn.Sequential(
            *(
                ConvNextStage(before, width, eps, [next(rates) for _ in range(num_blocks)])
                for before, width, num_blocks in zip(
                    (widths[0], *widths), widths, config.layers, strict=False
                )
            )
        )
        self.head = Readout(widths[-1], eps)
        self._initialize()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last map, (B, width, rows, columns), like timm's method."""
        return self.stages(self.first_map(images))

    def first_map(self, images: Tensor) -> Tensor:
        """Return the input of the first stage: (B, width, image height / 4, image width / 4)."""
        pixels = images.to(matrix_dtype(self.stem)).contiguous(memory_format=torch.channels_last)
        return self.stem(pixels)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)


class ConvNext(MapTower):
    """ConvNeXt: encodes (B, 3, height, width) images as (B, embed_dim) features, not normalised."""

    kind = ConvNextConfig.kind

    def __init__(self, config: ConvNextConfig, embed_dim: int) -> None:
        super().__init__(config.image_size, 3, embed_dim)
        self.grid_size = config.grid_size
        self.trunk = ConvNextTrunk(config)
        self.head = projection_head(
            config.proj, config.widths[-1], embed_dim, config.proj_bias, config.drop
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, embed_dim) features.

        Raises:
            ValueError: `images` is not (B, 3, *image_size).
            TypeError: `images` is not floating-point.
        """
        self.require_images(images)
        return self.head(self.trunk(images))

    def _stages(self) -> tuple[MapStage, ...]:
        return tuple(self.trunk.stages)

    def _first_map(self, images: Tensor) -> Tensor:
        return self.trunk.first_map(images)

    def _features(self, feature_map: Tensor) -> Tensor:
        return self.head(self.trunk.head(feature_map))

    def groups(self) -> list[Group]:
        """Return the trunk's layers in timm's groups.

        The projection is in no group, and so is never frozen, as in open_clip.
        """
        trunk = self.trunk
        of_blocks = [
            [stage.downsample, block] if i == 0 else [block]
            for stage in trunk.stages
            for i, block in enumerate(stage.blocks)
        ]
        return [[trunk.stem], *of_blocks, [trunk.head]]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for stage in self.trunk.stages:
            stage.grad_checkpointing = enable
