"""Converting between the `config.json` of transformers' Tipsv2Model and fastclip's configuration.

As in `transformers_config.py`, every field is obeyed or refused, unless it cannot change a result.

Source: Tipsv2Config of transformers 5.24.
"""

import math
from numbers import Real
from typing import Any

from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.transformers_fields import (
    ABSENT,
    EVERY_CONFIG,
    IMAGES_HAVE_NO_END,
    KIND,
    START,
)
from fastclip.models.clip_config import ClipConfig
from fastclip.models.json_fields import JsonFields
from fastclip.models.parts.mlp_ratio import mlp_ratio
from fastclip.models.towers.tips.config import TipsVisionConfig
from fastclip.models.towers.tips.presets import TEMPERATURE, tokenizer_of
from fastclip.models.towers.tips.text_config import TipsTextConfig

# transformers' defaults for fields that a file leaves out.
TEXT = dict(
    vocab_size=32000, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
    num_attention_heads=12, max_position_embeddings=64, layer_norm_eps=1e-5, pad_token_id=0,
)  # fmt: skip
VISION = dict(
    hidden_size=768, num_hidden_layers=12, num_attention_heads=12, mlp_ratio=4,
    layer_norm_eps=1e-6, image_size=448, patch_size=14, use_swiglu_ffn=False, layerscale_value=1.0,
)  # fmt: skip
BACKBONE = "It is for transformers' backbones, which return layers; the features are the same."
CODE = "It names code for transformers, which is not run here."
NO_END = "The feature is the mean of all tokens, so no end token is looked for."

MODEL_FIELDS = JsonFields(
    {"text_config", "vision_config", "model_type", "temperature_init_value"},
    ABSENT,
    EVERY_CONFIG | {"eos_token_id": NO_END, "auto_map": CODE},
)
TEXT_FIELDS = JsonFields(
    set(TEXT),
    ABSENT
    | {"hidden_act": ("relu",), "attention_dropout": (0.0,), "scale_sqrt_depth": (True,)}
    | {"pooling_epsilon": (1e-8,)},
    {name: why for name, why in EVERY_CONFIG.items() if name != "pad_token_id"}
    | KIND
    | {"eos_token_id": NO_END},
)
VISION_FIELDS = JsonFields(
    set(VISION),
    ABSENT
    | {"hidden_act": ("gelu",), "hidden_dropout_prob": (0.0,), "num_channels": (3,)}
    | {"attention_probs_dropout_prob": (0.0,), "drop_path_rate": (0.0,), "qkv_bias": (True,)}
    | {"num_register_tokens": (1,)},
    EVERY_CONFIG
    | KIND
    | IMAGES_HAVE_NO_END
    | dict.fromkeys(
        ("out_features", "out_indices", "stage_names", "apply_layernorm", "reshape_hidden_states"),
        BACKBONE,
    )
    | {"initializer_range": START},
)


def from_tips_config(values: dict[str, Any]) -> ClipConfig:
    """Read a `config.json` of a Tipsv2Model.

    Raises:
        ValueError: a field is unknown, or a value is not supported; the message names the field.
    """
    values = MODEL_FIELDS.read("the model", values)
    text = TEXT | TEXT_FIELDS.read("text_config", values.get("text_config") or {})
    vision = VISION | VISION_FIELDS.read("vision_config", values.get("vision_config") or {})
    temperature = values.get("temperature_init_value", TEMPERATURE)
    is_number = isinstance(temperature, Real) and not isinstance(temperature, bool)
    if not is_number or not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature_init_value {quoted(temperature)} is not supported: it must be positive"
        )
    vocab_size, width = text["vocab_size"], text["hidden_size"]
    return ClipConfig(
        vision["hidden_size"],
        TipsVisionConfig(
            _pair(vision["image_size"]), _side(vision["patch_size"]), vision["hidden_size"],
            vision["num_hidden_layers"], vision["num_attention_heads"],
            mlp_ratio=float(vision["mlp_ratio"]), swiglu=vision["use_swiglu_ffn"],
            ls_init_value=vision["layerscale_value"], norm_eps=vision["layer_norm_eps"],
        ),
        TipsTextConfig(
            text["max_position_embeddings"], vocab_size, width, text["num_attention_heads"],
            text["num_hidden_layers"], mlp_ratio=mlp_ratio(text["intermediate_size"], width),
            norm_eps=text["layer_norm_eps"], pad_id=text["pad_token_id"],
            hf_tokenizer_name=tokenizer_of(vocab_size, width),
        ),
        custom_text=True,
        init_logit_scale=-math.log(temperature),
    )  # fmt: skip


def to_tips_config(config: ClipConfig) -> dict[str, Any]:
    """Return the `config.json` of a TIPS model that `transformers_layout` can convert."""
    text = config.text_cfg
    return {
        "model_type": "tipsv2",
        "architectures": ["Tipsv2Model"],
        "torch_dtype": "float32",
        "temperature_init_value": math.exp(-config.init_logit_scale),
        "text_config": {
            "model_type": "tipsv2_text_model",
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": int(text.width * text.mlp_ratio),
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "layer_norm_eps": text.norm_eps,
            "pad_token_id": text.pad_id,
            "hidden_act": "relu",
        },
        "vision_config": to_tips_vision_config(config),
    }


def to_tips_vision_config(config: ClipConfig) -> dict[str, Any]:
    """Return the `config.json` of a Tipsv2VisionModel, without the name of the class."""
    vision = config.vision_cfg
    return {
        "model_type": "tipsv2_vision_model",
        "hidden_size": vision.width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "mlp_ratio": vision.mlp_ratio,
        "use_swiglu_ffn": vision.swiglu,
        "layer_norm_eps": vision.norm_eps,
        "layerscale_value": vision.ls_init_value,
        "image_size": vision.image_size[0],
        "patch_size": vision.patch_size,
        "num_channels": 3,
        "num_register_tokens": 1,
        "hidden_act": "gelu",
    }


def _pair(size: Any) -> Any:
    return tuple(size) if isinstance(size, list) else size


def _side(size: Any) -> Any:
    """Return the side of square patches; any other value is returned as it is."""
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        return size[0]
    return size
