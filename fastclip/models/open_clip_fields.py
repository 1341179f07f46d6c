"""The fields of open_clip's JSON of a model, and what happens to each, by kind of tower.

A field that a kind of tower has no use for may be there with open_clip's default, as in a file that
lists all fields. Another value of it is refused, also where open_clip itself does not look at it.

Source: CLIPVisionCfg, CLIPTextCfg, CLIP and TimmModel of open_clip_torch 3.3.0.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fastclip.models.config import (
    ClipConfig,
    ResNetConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionConfig,
)
from fastclip.models.json_fields import JsonFields

# Defaults of open_clip; where a second value is listed, it means the same.
BLOCKS = {
    "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}),
    "block_type": (None, "default"),
    "qk_norm": (False,),
    "scaled_cosine_attn": (False,),
    "scale_heads": (False,),
    "scale_attn_inner": (False,),
    "scale_attn": (False,),
    "scale_fc": (False,),
    "mlp_ratio": (4.0,),
    "ls_init_value": (None,),
    "output_tokens": (False,),
    "final_ln_after_pool": (False,),
}
VISION = BLOCKS | {
    "layers": (12,),
    "width": (768,),
    "head_width": (64,),
    "patch_size": (16, None),
    "image_size": (224,),
    "patch_dropout": (0.0,),
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "pos_embed_type": ("learnable",),
    "pool_type": ("tok",),
    "timm_model_name": (None, ""),
}
TEXT = BLOCKS | {
    "embed_cls": (False,),
    "tokenizer_mode": (None, ""),
    "hf_model_name": (None, ""),
}
ADVICE = {
    "hf_model_name": "give the Hugging Face model to TwoTower",
    "timm_pool": "fastclip reads 'map', SigLIP's; give timm's model to TwoTower",
    "timm_proj": "fastclip reads 'none', SigLIP's; give timm's model to TwoTower",
}
# Why a field cannot change a result.
NO_POOLER = "It belongs to attentional_pool, which is refused."
NOT_TIMM = "It belongs to timm_model_name, which is not given."
NOT_HUGGING_FACE = "It belongs to hf_model_name, which is refused."
POOLER = {"attn_pooler_queries": NO_POOLER, "attn_pooler_heads": NO_POOLER}
NO_TIMM = {
    "timm_model_pretrained": NOT_TIMM, "timm_pool": NOT_TIMM, "timm_proj": NOT_TIMM,
    "timm_proj_bias": NOT_TIMM, "timm_drop": NOT_TIMM, "timm_drop_path": NOT_TIMM,
}  # fmt: skip


def _names(cls: type) -> set[str]:
    return {f.name for f in fields(cls)}


def _fields(obeyed: set[str], defaults: dict[str, tuple], why: Mapping[str, str]) -> JsonFields:
    only = {
        # A flag that is null is not set: open_clip asks whether it is true.
        name: (False, None) if values == (False,) else values
        for name, values in defaults.items()
        if name not in {*obeyed, *why}
    }
    return JsonFields(obeyed, only, why, ADVICE)


# `activation` and `norm_eps` in open_clip's words.
READ_AS_OURS = {"act_kwargs", "norm_kwargs"}
MODEL = _fields(_names(ClipConfig) | {"quick_gelu"}, {}, {})
VISION_TRANSFORMER = _fields(_names(VisionConfig) | READ_AS_OURS, VISION, POOLER | NO_TIMM)
RESNET = _fields(
    _names(ResNetConfig),
    VISION,
    POOLER | NO_TIMM | {"patch_size": "A ResNet has no patches."},
)
# SigLIP's tower in our words, for sizes that timm has no name for.
SIGLIP = _fields(_names(SiglipVisionConfig) | {"pool_type"}, VISION, POOLER | NO_TIMM)
# What a name of timm's leaves open.
CHOSEN = {"image_size", "activation", "patch_dropout", "output_tokens"} & _names(SiglipVisionConfig)
SIGLIP_OF_TIMM = _fields(
    CHOSEN | {"timm_model_name"},
    VISION
    | {
        "timm_pool": ("map",),
        "timm_proj": ("none",),
        "timm_drop_path": (None, 0.0),
        "timm_model_pretrained": (False,),
    },
    POOLER
    | {
        "timm_drop": "open_clip drops before its projection only, and timm_proj is 'none'.",
        "timm_proj_bias": "There is no projection: timm_proj is 'none'.",
    },
)
TEXT_TRANSFORMER = _fields(
    _names(TextConfig) | READ_AS_OURS,
    TEXT,
    {
        "pad_id": "It tells embed_cls, which is refused, where a text ends.",
        "hf_model_pretrained": NOT_HUGGING_FACE,
        "hf_proj_type": NOT_HUGGING_FACE,
        "hf_pooler_type": NOT_HUGGING_FACE,
    },
)

# What a missing field of timm's tower means to open_clip: another readout than SigLIP's.
TIMM_DEFAULTS: dict[str, Any] = {"timm_pool": "avg", "timm_proj": "linear"}
