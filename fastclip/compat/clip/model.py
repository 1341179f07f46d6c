"""The names of `clip.model`."""

from fastclip.models.activations import QuickGELU
from fastclip.models.layer_norm import LayerNorm
from fastclip.models.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from fastclip.models.openai import LogitsCLIP as CLIP
from fastclip.models.openai import build_openai_model as build_model
from fastclip.models.precision import convert_weights_to_fp16 as convert_weights
from fastclip.models.transformer import ResidualBlock as ResidualAttentionBlock
from fastclip.models.transformer import Transformer
from fastclip.models.vision_transformer import VisionTransformer
