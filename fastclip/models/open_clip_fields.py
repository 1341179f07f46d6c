"""The fields in open_clip's JSON of a tower, and how a tower treats the fields that it cannot obey.

A field that a kind of tower does not have may be in the file with open_clip's default, as in a file
that lists all fields. Any other value is refused, even where open_clip itself ignores the field.

Source: CLIPVisionCfg, CLIPTextCfg, CLIP and TimmModel of open_clip_torch 3.3.0.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fastclip.models.json_fields import JsonFields

# open_clip's defaults; if a second value is listed, it means the same.
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
    "tokenizer_mode": (None, ""),
    "hf_model_name": (None, ""),
}
ADVICE = {
    "timm_model_pretrained": "a configuration fetches no weights",
    "timm_pool": "for this timm_model_name fastclip reads 'map', as in SigLIP",
    "timm_proj": "for this timm_model_name fastclip reads 'none', as in SigLIP",
}
# open_clip's defaults for missing fields of a timm tower; some towers here have another readout.
TIMM_DEFAULTS: dict[str, Any] = {"timm_pool": "avg", "timm_proj": "linear"}
# Why a field cannot change a result.
NO_POOLER = "It belongs to attentional_pool, which such a tower does not have."
NOT_TIMM = "It belongs to timm_model_name, which is not given."
NOT_HUGGING_FACE = "It belongs to hf_model_name, which is not given."
POOLER = {"attn_pooler_queries": NO_POOLER, "attn_pooler_heads": NO_POOLER}
NO_TIMM = {
    "timm_model_pretrained": NOT_TIMM, "timm_pool": NOT_TIMM, "timm_proj": NOT_TIMM,
    "timm_proj_bias": NOT_TIMM, "timm_drop": NOT_TIMM, "timm_drop_path": NOT_TIMM,
}  # fmt: skip


# open_clip's names for the fields `activation` and `norm_eps`.
READ_AS_OURS = {"act_kwargs", "norm_kwargs"}


def names_of(cls: type) -> set[str]:
    """Return the names of the fields of a dataclass."""
    return {f.name for f in fields(cls)}


def json_fields(
    obeyed: set[str], defaults: Mapping[str, tuple], why: Mapping[str, str]
) -> JsonFields:
    """Return the treatment of the fields of one kind of object.

    Args:
        obeyed: fields that the reader uses.
        defaults: open_clip's fields with their defaults, which are checked unless obeyed.
        why: fields without effect, with the reason.
    """
    only = {
        # A flag that is null counts as not set: open_clip only tests whether it is true.
        name: (False, None) if values == (False,) else values
        for name, values in defaults.items()
        if name not in {*obeyed, *why}
    }
    return JsonFields(obeyed, only, why, ADVICE)
