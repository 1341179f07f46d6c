"""The names of `open_clip.modified_resnet`."""

from fastclip.models.towers.modified_resnet.module import (
    AttentionPool2d,
    Bottleneck,
    ModifiedResNet,
)
