"""Models of every kind that is built in, small enough for a test each."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from fastclip.models.build import class_of
from fastclip.models.clip import CLIP
from fastclip.models.config import (
    ClipConfig,
    MultimodalConfig,
    NaflexConfig,
    ResNetConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionConfig,
)
from fastclip.models.two_tower import CustomTextCLIP

TEXT = TextConfig(context_length=9, vocab_size=64, width=128, heads=2, layers=2)
VIT = ClipConfig(48, VisionConfig(32, patch_size=8, width=128, layers=3), TEXT)


def _vision(**changes) -> ClipConfig:
    return replace(VIT, vision_cfg=replace(VIT.vision_cfg, **changes))


def _text(**changes) -> ClipConfig:
    return replace(VIT, text_cfg=replace(VIT.text_cfg, **changes))


SIGLIP = ClipConfig(
    128,
    SiglipVisionConfig(32, patch_size=8, width=128, layers=2, heads=4, activation="gelu_tanh"),
    replace(
        TEXT, no_causal_mask=True, pool_type="last", proj_bias=True, norm_eps=1e-6,
        activation="gelu_tanh",
    ),
    custom_text=True,
    init_logit_scale=2.3,
    init_logit_bias=-10.0,
)  # fmt: skip

NAFLEX = replace(
    SIGLIP, vision_cfg=NaflexConfig(32, 8, width=128, layers=2, heads=4, position_grid=(3, 3))
)

COCA = ClipConfig(
    64,
    VisionConfig(
        32, patch_size=8, width=128, layers=2, output_tokens=True, attentional_pool=True,
        attn_pooler_queries=5, attn_pooler_heads=4,
    ),
    replace(TEXT, width=64, embed_cls=True, output_tokens=True),
    custom_text=True,
    multimodal_cfg=MultimodalConfig(context_length=9, width=64, heads=2, layers=2),
)  # fmt: skip

SMALL = {
    "vit": VIT,
    "quick_gelu": replace(
        VIT, vision_cfg=replace(VIT.vision_cfg, activation="quick_gelu"),
        text_cfg=replace(TEXT, activation="quick_gelu"),
    ),
    "tall": _vision(image_size=(40, 24)),
    "layer_scale": _vision(ls_init_value=0.1),
    "clipa": _vision(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True),
    "avg": _vision(pool_type="avg"),
    "wide_mlp": _vision(mlp_ratio=2.6, head_width=32),
    "eos": _text(pool_type="eos", eos_id=5),
    "first": _text(pool_type="first", no_causal_mask=True),
    "no_projection": replace(VIT, embed_dim=128, text_cfg=replace(TEXT, proj_type="none")),
    "custom_text": replace(VIT, custom_text=True, init_logit_bias=-10.0),
    "resnet": replace(VIT, vision_cfg=ResNetConfig(64, (1, 2, 1, 1), width=8, head_width=32)),
    "siglip": SIGLIP,
    "naflex": NAFLEX,
}  # fmt: skip


def with_layers(config: ClipConfig, layers: int) -> ClipConfig:
    """The same towers of as many blocks; a ResNet has them in each of its four stages."""
    vision = config.vision_cfg
    stages = (layers,) * 4 if isinstance(vision, ResNetConfig) else layers
    return replace(
        config, vision_cfg=replace(vision, layers=stages),
        text_cfg=replace(config.text_cfg, layers=layers),
    )  # fmt: skip


# Of one block each: enough where what counts is a step, and not how blocks follow each other.
SHALLOW = {name: with_layers(config, 1) for name, config in SMALL.items()}


def build(config: ClipConfig, seed: int = 0) -> CLIP | CustomTextCLIP:
    """A model in evaluation mode in which no parameter is zero, one or the same as another."""
    torch.manual_seed(seed)
    model = class_of(config)(config)
    shake(model)
    return model.eval()


def shake(model: nn.Module) -> None:
    """Move what starts at zero or one: a swapped or forgotten gain would not be seen."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim <= 1 and "logit" not in name:
                value += 0.1 * torch.randn_like(value)
        for name, value in model.named_buffers():
            if "running" in name:
                value += 0.1 * torch.rand_like(value)


def inputs(config: ClipConfig, batch_size: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Images and tokens; every text has one end token, at another place."""
    generator = torch.Generator().manual_seed(seed)
    channels = getattr(config.vision_cfg, "channels", 3)
    images = torch.randn(batch_size, channels, *config.vision_cfg.image_size, generator=generator)
    text = config.text_cfg
    T, end = text.context_length, text.vocab_size - 1
    tokens = torch.randint(6, end, (batch_size, T), generator=generator)
    for row in range(batch_size):
        position = T - 1 - row % (T - 2)
        tokens[row, position] = text.eos_id if text.pool_type == "eos" else end
        tokens[row, position + 1 :] = 0
    return images, tokens
