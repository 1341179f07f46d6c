"""Converting between transformers' `config.json` and fastclip's configuration.

A field that a `config.json` leaves out has transformers' default. Every other field is obeyed or
refused, unless it cannot change a result: see `transformers_fields.py`. Early files of OpenAI's
models have an `eos_token_id` of 2 by mistake; transformers reads it as "the token with the largest
id", and so does fastclip.

Source: CLIPConfig, SiglipConfig and Siglip2Config of transformers 5.23.
"""

import math

from fastclip.data.quoting import quoted
from fastclip.models.checkpoints import transformers_fields
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.transformers_layout import FAMILIES
from fastclip.models.checkpoints.transformers_tips import (
    from_tips_config,
    to_tips_config,
    to_tips_vision_config,
)
from fastclip.models.clip_config import (
    DEFAULT_LOGIT_SCALE,
    SIGLIP_LOGIT_BIAS,
    SIGLIP_LOGIT_SCALE,
    ClipConfig,
)
from fastclip.models.json_fields import JsonFields
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.towers.naflex.config import NaflexConfig
from fastclip.models.towers.siglip.config import SiglipVisionConfig
from fastclip.models.towers.siglip.text import siglip_text
from fastclip.models.towers.text.config import TextConfig
from fastclip.models.towers.vision_transformer.config import VisionConfig

CLIP_TEXT = dict(
    vocab_size=49408, hidden_size=512, intermediate_size=2048, num_hidden_layers=12,
    num_attention_heads=8, max_position_embeddings=77, hidden_act="quick_gelu",
    layer_norm_eps=1e-5, eos_token_id=49407,
)  # fmt: skip
CLIP_VISION = dict(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    image_size=224, patch_size=32, hidden_act="quick_gelu", layer_norm_eps=1e-5, num_channels=3,
)  # fmt: skip
SIGLIP_TEXT = dict(
    vocab_size=32000, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
    num_attention_heads=12, max_position_embeddings=64, hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=1e-6,
)  # fmt: skip
SIGLIP_BLOCKS = dict(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    patch_size=16, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
)  # fmt: skip
SIGLIP_VISION = SIGLIP_BLOCKS | dict(image_size=224)
SIGLIP2_VISION = SIGLIP_BLOCKS | dict(num_patches=256)

THEIR_ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
OUR_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
MISTAKEN_EOS = 2


def from_transformers_config(values: dict) -> ClipConfig:
    """Read a `config.json` of a CLIPModel, SiglipModel, Siglip2Model or Tipsv2Model.

    Raises:
        ValueError: the file is of another model, a field is unknown, or a value is not supported;
            the message names the field.
    """
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in READERS:
        raise CheckpointError(
            f"config.json has model_type {quoted(kind)}, which is not supported: fastclip reads "
            "clip (CLIPModel), siglip (SiglipModel), siglip2 (Siglip2Model) and tipsv2 "
            "(Tipsv2Model)"
        )
    return READERS[kind](values)


def to_transformers_config(config: ClipConfig) -> dict:
    """Return the `config.json` of a model that `transformers_layout` can convert."""
    vision, text = config.vision_cfg, config.text_cfg
    if vision.transformers_model == "tipsv2":
        return to_tips_config(config)
    text_values = _their_blocks(text) | {
        "vocab_size": text.vocab_size,
        "max_position_embeddings": text.context_length,
    }
    family = vision.transformers_model
    if family != "clip":
        text_values |= {"projection_size": config.embed_dim}
        # The model looks for no token; transformers checks that these ids are in the vocabulary.
        text_values |= {"pad_token_id": 1, "bos_token_id": None, "eos_token_id": 1}
        specific = {"model_type": family, "architectures": [f"{family.capitalize()}Model"]}
        text_model = f"{family}_text_model"
    else:
        eos = text.eos_id if text.pool_type == "eos" else text.vocab_size - 1
        text_values |= {"bos_token_id": text.vocab_size - 2, "eos_token_id": eos}
        text_values |= {"projection_dim": config.embed_dim}
        specific = {"model_type": "clip", "architectures": ["CLIPModel"]}
        specific |= {"projection_dim": config.embed_dim}
        specific |= {"logit_scale_init_value": config.init_logit_scale}
        text_model = "clip_text_model"
    return specific | {
        "torch_dtype": "float32",
        "initializer_factor": 1.0,
        "text_config": {"model_type": text_model} | text_values,
        "vision_config": _vision_values(config),
    }


def to_transformers_vision_config(config: ClipConfig) -> dict:
    """Return the `config.json` of an image tower alone, such as a CLIPVisionModel."""
    model = FAMILIES[config.vision_cfg.transformers_model].vision_model
    return {"architectures": [model], "torch_dtype": "float32"} | _vision_values(config)


def _vision_values(config: ClipConfig) -> dict:
    vision = config.vision_cfg
    if vision.transformers_model == "tipsv2":
        return to_tips_vision_config(config)
    values = {"model_type": f"{vision.transformers_model}_vision_model"} | _their_blocks(vision)
    values |= {"patch_size": vision.patch_size, "num_channels": 3}
    if isinstance(vision, NaflexConfig):
        values |= {"num_patches": math.prod(vision.position_grid)}
    else:
        values |= {"image_size": _square(vision.image_size)}
    if vision.transformers_model == "clip":
        values |= {"projection_dim": config.embed_dim}
    return values


def _clip(values: dict) -> ClipConfig:
    values = transformers_fields.CLIP.read("the model", values)
    text = _tower(values, "text", CLIP_TEXT, transformers_fields.CLIP_TEXT)
    vision = _tower(values, "vision", CLIP_VISION, transformers_fields.CLIP_VISION)
    eos = text["eos_token_id"]
    if not isinstance(eos, int):
        raise ValueError(
            f"text_config: eos_token_id {quoted(eos)} is not supported: fastclip reads one number"
        )
    by_id = {} if eos in (MISTAKEN_EOS, text["vocab_size"] - 1) else {"eos_id": eos}
    return ClipConfig(
        values.get("projection_dim", 512),
        VisionConfig(
            vision["image_size"], _patch_size(vision), **_blocks(vision),
            head_width=vision["hidden_size"] // vision["num_attention_heads"],
            channels=vision["num_channels"],
        ),
        TextConfig(
            text["max_position_embeddings"], text["vocab_size"], **_blocks(text),
            heads=text["num_attention_heads"], pool_type="eos" if by_id else "argmax", **by_id,
        ),
        init_logit_scale=values.get("logit_scale_init_value", DEFAULT_LOGIT_SCALE),
    )  # fmt: skip


def _siglip(values: dict) -> ClipConfig:
    kind = values["model_type"]
    values = transformers_fields.SIGLIP.read("the model", values)
    text = _tower(values, "text", SIGLIP_TEXT, transformers_fields.SIGLIP_TEXT)
    is_naflex = kind == "siglip2"
    if is_naflex:
        vision = _tower(values, "vision", SIGLIP2_VISION, transformers_fields.SIGLIP2_VISION)
    else:
        vision = _tower(values, "vision", SIGLIP_VISION, transformers_fields.SIGLIP_VISION)
    projection_size = text.get("projection_size") or text["hidden_size"]
    if projection_size != vision["hidden_size"]:
        raise ValueError(
            f"text_config: projection_size {quoted(projection_size)} is not the hidden_size "
            f"{vision['hidden_size']} of the vision tower"
        )
    return ClipConfig(
        vision["hidden_size"],
        _naflex_tower(vision) if is_naflex else _siglip_tower(vision),
        TextConfig(
            text["max_position_embeddings"], text["vocab_size"],
            heads=text["num_attention_heads"], **siglip_text(text["vocab_size"]) | _blocks(text),
        ),
        custom_text=True,
        init_logit_scale=SIGLIP_LOGIT_SCALE,
        init_logit_bias=SIGLIP_LOGIT_BIAS,
    )  # fmt: skip


def _siglip_tower(vision: dict) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        vision["image_size"], _patch_size(vision), **_blocks(vision),
        heads=vision["num_attention_heads"],
    )  # fmt: skip


def _naflex_tower(vision: dict) -> NaflexConfig:
    """Return a NaFlex tower, whose images have by default as many patches as it has positions."""
    num_patches, patch_size = vision["num_patches"], _patch_size(vision)
    side = math.isqrt(num_patches) if isinstance(num_patches, int) and num_patches > 0 else 0
    if side == 0 or side**2 != num_patches:
        raise ValueError(
            f"vision_config: num_patches {quoted(num_patches)} is not supported: it must be a "
            "square number, because positions are on a square grid"
        )
    return NaflexConfig(
        side * patch_size, patch_size, **_blocks(vision),
        heads=vision["num_attention_heads"], position_grid=(side, side),
    )  # fmt: skip


READERS = {"clip": _clip, "siglip": _siglip, "siglip2": _siglip, "tipsv2": from_tips_config}


def _blocks(tower: dict) -> dict:
    activation = THEIR_ACTIVATIONS.get(tower["hidden_act"])
    if activation is None:
        raise CheckpointError(
            f"hidden_act {quoted(tower['hidden_act'])} is not supported: it must be one of "
            f"{tuple(THEIR_ACTIVATIONS)}"
        )
    if tower["hidden_size"] % tower["num_attention_heads"]:
        raise ValueError(
            f"hidden_size {tower['hidden_size']} is not a multiple of num_attention_heads "
            f"{tower['num_attention_heads']}"
        )
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "mlp_ratio": mlp_ratio(tower["intermediate_size"], tower["hidden_size"]),
        "activation": activation,
        "norm_eps": tower["layer_norm_eps"],
    }


def _their_blocks(tower: ImageTowerConfig | TextConfig) -> dict:
    """Return transformers' fields of a tower's blocks: the reverse of `_blocks`, with heads."""
    return {
        "hidden_size": tower.width,
        "intermediate_size": int(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": OUR_ACTIVATIONS[tower.activation],
        "layer_norm_eps": tower.norm_eps,
        "attention_dropout": 0.0,
    }


def _tower(values: dict, name: str, defaults: dict, fields: JsonFields) -> dict:
    """Return the values of a tower's obeyed fields, with defaults for fields that are left out."""
    told = fields.read(f"{name}_config", values.get(f"{name}_config") or {})
    # Early files have a second copy, which transformers completes with defaults and prefers.
    if second := values.get(f"{name}_config_dict"):
        told |= defaults | fields.read(f"{name}_config_dict", second)
    return defaults | told


def _patch_size(vision: dict) -> int:
    size = vision["patch_size"]
    if isinstance(size, int):
        return size
    if len(size) == 2 and size[0] == size[1]:
        return size[0]
    raise ValueError(
        f"vision_config: patch_size {quoted(size)} is not supported: patches must be square"
    )


def _square(size: tuple[int, int]) -> int:
    if size[0] != size[1]:
        raise CheckpointError(
            f"transformers' models take square images, and the model's image_size is {size}"
        )
    return size[0]
