"""CLIP's ResNet: a stem of three convolutions, anti-aliased strides, and attention pooling.

    stride   average pooling, then a convolution of stride 1, in both branches of a bottleneck
    pooling  attention: the query is the mean token; keys and values are all tokens and the mean

Source: Radford et al. 2021, arXiv:2103.00020, section 2.4; He et al. 2018, arXiv:1812.01187
(ResNet-D); Zhang 2019, arXiv:1904.11486.
"""

from collections import OrderedDict
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fastclip.models.parts.batch_norm import batch_norms, keep_frozen, without_statistics
from fastclip.models.parts.locking import Group
from fastclip.models.parts.transformer import matrix_dtype
from fastclip.models.towers.map_tower import MapStage, MapTower
from fastclip.models.towers.modified_resnet.config import ResNetConfig

EXPANSION = 4  # a bottleneck returns so many times the channels of its 3 x 3 convolution
OPENAI_NAMES = {"relu1": "act1", "relu2": "act2", "relu3": "act3"}


class NamedByBoth(nn.Module):
    """Base of modules whose activations have open_clip's names (`act1`) and OpenAI's (`relu1`)."""

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(OPENAI_NAMES.get(name, name))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(OPENAI_NAMES.get(name, name), value)


class Bottleneck(NamedByBoth):
    """1 x 1, 3 x 3 and 1 x 1 convolutions on (B, inplanes, H, W), added to a shortcut."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        outplanes = planes * EXPANSION
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.act2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outplanes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outplanes)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inplanes != outplanes:
            # The pooling has no weights and is called "-1": in published checkpoints the
            # convolution is number 0.
            self.downsample = nn.Sequential(
                OrderedDict(
                    {
                        "-1": nn.AvgPool2d(stride),
                        "0": nn.Conv2d(inplanes, outplanes, 1, bias=False),
                        "1": nn.BatchNorm2d(outplanes),
                    }
                )
            )
        nn.init.zeros_(self.bn3.weight)  # a block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.avgpool(out)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.act3(out + shortcut)


class AttentionPool2d(nn.Module):
    """Attention pooling of a (B, channels, H, W) map to (B, output_dim).

    The query is the mean token; keys and values are all tokens and the mean.
    """

    def __init__(
        self, grid_size: tuple[int, int], channels: int, heads: int, output_dim: int
    ) -> None:
        super().__init__()
        self.num_heads = heads
        num_tokens = grid_size[0] * grid_size[1] + 1
        std = channels**-0.5
        self.positional_embedding = nn.Parameter(std * torch.randn(num_tokens, channels))
        self.k_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, output_dim)
        for linear in (self.k_proj, self.q_proj, self.v_proj, self.c_proj):
            nn.init.normal_(linear.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        q, k, v = (
            projection(part).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, part in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.c_proj(attended.transpose(1, 2).flatten(1))


class Stage(nn.Sequential):
    """A sequence of bottlenecks, of which the first may have a stride.

    Attributes:
        grad_checkpointing: whether blocks keep only their inputs and run again in the backward.
    """

    grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = self._run(block, x)
        return x

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(
                block, x, use_reentrant=False,
                context_fn=lambda: (nullcontext(), without_statistics(batch_norms(block))),
            )  # fmt: skip
        return block(x)


class ModifiedResNet(NamedByBoth, MapTower):
    """CLIP's ResNet: encodes (B, 3, height, width) images as (B, embed_dim) features.

    The features are not normalised.

    Attributes:
        bn_stats_are_frozen: whether frozen batch normalisations stay in evaluation mode; see
            `ImageTower.lock`.
    """

    kind = ResNetConfig.kind
    positions = ResNetConfig.positions

    def __init__(self, config: ResNetConfig, embed_dim: int) -> None:
        super().__init__(config.image_size, 3, embed_dim)
        width = config.width
        self.grid_size = config.grid_size
        self.bn_stats_are_frozen = False
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, config.layers[0], stride=1)
        self.layer2 = _stage(4 * width, 2 * width, config.layers[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, config.layers[2], stride=2)
        self.layer4 = _stage(16 * width, 8 * width, config.layers[3], stride=2)
        self.attnpool = AttentionPool2d(config.grid_size, 32 * width, config.heads, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, embed_dim) features.

        Raises:
            ValueError: `images` is not (B, 3, *image_size), or `output_tokens` is set.
            TypeError: `images` is not floating-point.
        """
        self.require_images(images)
        if self.output_tokens:
            raise ValueError("output_tokens must be False: a ResNet has no tokens to return")
        return self.attnpool(self._feature_map(images))

    def _stages(self) -> tuple[MapStage, ...]:
        return self.stem, self.layer1, self.layer2, self.layer3, self.layer4

    def _first_map(self, images: Tensor) -> Tensor:
        return images.to(matrix_dtype(self.conv1))

    def _features(self, feature_map: Tensor) -> Tensor:
        return self.attnpool(feature_map)

    def stem(self, x: Tensor) -> Tensor:
        """Turn (B, 3, H, W) images into the first (B, width, H / 4, W / 4) map."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.avgpool(self.act3(self.bn3(self.conv3(x))))

    def groups(self) -> list[Group]:
        stem = [self.conv1, self.bn1, self.conv2, self.bn2, self.conv3, self.bn3]
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [stem, *([stage] for stage in stages), [self.attnpool]]

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        super().lock(unlocked_groups, freeze_bn_stats)
        self.bn_stats_are_frozen = freeze_bn_stats
        self.train(self.training)

    def train(self, mode: bool = True) -> "ModifiedResNet":
        super().train(mode)
        if self.bn_stats_are_frozen:
            keep_frozen(batch_norms(self))
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            stage.grad_checkpointing = enable


def _stage(inplanes: int, planes: int, num_blocks: int, stride: int) -> Stage:
    first = Bottleneck(inplanes, planes, stride)
    return Stage(first, *(Bottleneck(planes * EXPANSION, planes) for _ in range(num_blocks - 1)))
