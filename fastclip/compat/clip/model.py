"""The names of `clip.model`."""

from fastclip.models.openai import LogitsCLIP as CLIP
from fastclip.models.openai import build_openai_model as build_model
from fastclip.models.parts.activations import QuickGELU
from fastclip.models.parts.layer_norm import LayerNorm
from fastclip.models.parts.transformer import ResidualBlock as ResidualAttentionBlock
from fastclip.models.parts.transformer import Transformer
from fastclip.models.precision import convert_weights_to_fp16 as convert_weights
from fastclip.models.towers.modified_resnet.module import (
    AttentionPool2d,
    Bottleneck,
    ModifiedResNet,
)
from fastclip.models.towers.vision_transformer.module import VisionTransformer
