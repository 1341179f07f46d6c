"""The names of `open_clip.modified_resnet`."""

from fastclip.models.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet
