"""Models with a tower of timm's, made small by arguments of timm's, in open_clip and here."""

import functools
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from fastclip.models.build import build_model
from fastclip.models.checkpoints.stored_model import StoredModel
from fastclip.models.clip_config import ClipConfig
from fastclip.models.presets import PRESETS
from tests.support.peers import open_clip, timm
from tests.support.small_models import shake

TEXT = dict(width=64, heads=1, layers=1, vocab_size=64)
FASTVIT = dict(layers=(1, 1, 1, 1), embed_dims=(16, 32, 64, 128))
# A model of each family and size class: what makes its trunk small.
FAMILIES = {
    "EVA01-g-14": dict(depth=2, embed_dim=64, num_heads=2),
    "EVA02-B-16": dict(depth=2, embed_dim=64, num_heads=2),
    "MobileCLIP2-S0": FASTVIT,
    "MobileCLIP2-S3": dict(layers=(1, 1, 1, 1, 1), embed_dims=(16, 32, 64, 128, 256)),
    "MobileCLIP-B": dict(depth=1),
    "MobileCLIP2-L-14": dict(depth=2, embed_dim=64, num_heads=2),
    "ViTamin-S": dict(depth=1),
    "swin_base_patch4_window7_224": dict(depths=(2, 1, 1, 1), embed_dim=16, num_heads=(1, 2, 2, 4)),
    "vit_medium_patch16_gap_256": dict(depth=2, embed_dim=64, num_heads=2),
    "vit_relpos_medium_patch16_cls_224": dict(depth=2, embed_dim=64, num_heads=2),
}
# Of trunks that stay large, images of another size.
IMAGES = {"MobileCLIP-B": 64, "ViTamin-S": 64}


def with_small_trunks(monkeypatch, **sizes) -> None:
    """From now on timm builds every model with these arguments too."""
    monkeypatch.setattr(timm, "create_model", functools.partial(timm.create_model, **sizes))


def of_few_blocks(name: str) -> dict:
    """What makes a trunk short and leaves every width."""
    trunk = PRESETS[name].vision_cfg.timm_model_name
    if trunk.startswith("fastvit"):
        return dict(layers=(1,) * (5 if trunk[-1] in "34" else 4))
    if trunk.startswith("swin"):
        return dict(depths=(1, 1, 1, 1))
    return dict(depth=1)


def small(name: str) -> ClipConfig:
    """The configuration with a small text tower, and maybe for small images."""
    config = PRESETS[name]
    size = IMAGES.get(name, config.vision_cfg.image_size)
    return replace(
        config, vision_cfg=replace(config.vision_cfg, image_size=size),
        text_cfg=replace(config.text_cfg, **TEXT),
    )  # fmt: skip


def open_clips(name: str, **text) -> nn.Module:
    """open_clip's model of its own configuration, with another text tower."""
    values = deepcopy(open_clip.get_model_config(name))
    values["text_cfg"] |= text
    is_custom = values.pop("custom_text", False)
    return (open_clip.CustomTextCLIP if is_custom else open_clip.CLIP)(**values)


def both(name: str) -> tuple[nn.Module, nn.Module]:
    """open_clip's small model, with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs = open_clips(name, **TEXT)
    if name in IMAGES:
        theirs.visual.set_input_size(IMAGES[name])
    shake(theirs)
    config = small(name)
    return theirs, build_model(config, StoredModel(theirs.state_dict(), config, None, None, None))
