"""Model configurations as JSON, in open_clip's words.

What open_clip cannot say is written in words of our own, which its reader refuses: a tower whose
activation neither `quick_gelu` nor `act_kwargs` tells, grey images, SigLIP towers of sizes that
timm has no name for. `is_portable` tells whether a configuration does without them.

Source: the model configurations of open_clip_torch 3.3.0 and the SigLIP models of timm 1.0.31.
"""

import re
from dataclasses import MISSING, asdict, fields

from fastclip.data.quoting import first_line, quoted
from fastclip.models import open_clip_fields
from fastclip.models.config import (
    ClipConfig,
    ResNetConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionConfig,
)

SIGLIP_NAME = re.compile(r"vit_(base|large|so400m|giantopt)_patch(\d+)_siglip_(\d+)")
SIGLIP_SIZES = {
    "base": dict(width=768, layers=12, heads=12),
    "large": dict(width=1024, layers=24, heads=16),
    "so400m": dict(width=1152, layers=27, heads=16, mlp_ratio=3.7362),
    "giantopt": dict(width=1536, layers=40, heads=16),
}
# Of those names, the ones that timm builds with the approximation by tanh.
SIGLIP_TANH = re.compile(
    r"vit_(base_patch32_siglip_256|large_patch16_siglip_512|so400m_patch16_.*|giantopt_.*)"
)
OURS = {"activation", "channels"}


def from_json(values: dict) -> ClipConfig:
    """Read open_clip's JSON of a model.

    Every field is obeyed or refused, but for those that cannot matter: see `open_clip_fields.py`.

    Raises:
        ValueError: a field is missing or unknown, or asks for a tower that is not built in: a timm
            model other than SigLIP's, a Hugging Face text model, CoCa's.
    """
    for tower in ("vision_cfg", "text_cfg"):
        if not isinstance(values.get(tower), dict):
            raise ValueError(f"not a model configuration: {tower} is {quoted(values.get(tower))}")
    if "multimodal_cfg" in values:
        raise ValueError("multimodal_cfg: CoCa models are not supported")
    values = open_clip_fields.MODEL.read("the model", values)
    quick_gelu = bool(values.pop("quick_gelu", False))
    try:
        towers = {
            "vision_cfg": _vision(values["vision_cfg"], quick_gelu),
            "text_cfg": _text(values["text_cfg"], quick_gelu),
        }
        return ClipConfig(**values | towers | {"custom_text": bool(values.get("custom_text"))})
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a model configuration: {first_line(error)}") from error


def to_json(config: ClipConfig) -> dict:
    """Write open_clip's JSON of a model; only values that are not open_clip's defaults."""
    quick_gelu = set(config.activations) <= {"quick_gelu", None}
    values: dict = {
        "embed_dim": config.embed_dim,
        "vision_cfg": _vision_json(config.vision_cfg, quick_gelu),
        "text_cfg": _tower_json(config.text_cfg, quick_gelu),
    }
    if quick_gelu:
        values["quick_gelu"] = True
    optional = ("custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale")
    for name in optional:
        value = getattr(config, name)
        if value != _defaults(ClipConfig)[name]:
            values[name] = value
    return values


def is_portable(config: ClipConfig) -> bool:
    """Whether open_clip can read `to_json(config)`."""
    values = to_json(config)
    vision = values["vision_cfg"]
    return not (OURS & (set(vision) | set(values["text_cfg"])) or vision.get("pool_type") == "map")


def _vision(values: dict, quick_gelu: bool) -> VisionConfig | SiglipVisionConfig | ResNetConfig:
    if timm_name := values.get("timm_model_name"):
        _require_siglip(timm_name)
        told = open_clip_fields.TIMM_DEFAULTS | values
        values = open_clip_fields.SIGLIP_OF_TIMM.read("vision_cfg", told)
        return siglip_from_timm_name(values.pop("timm_model_name"), values)
    if values.get("pool_type") == "map":
        values = open_clip_fields.SIGLIP.read("vision_cfg", values)
        return SiglipVisionConfig(**{k: v for k, v in values.items() if k != "pool_type"})
    if isinstance(values.get("layers"), (list, tuple)):
        values = open_clip_fields.RESNET.read("vision_cfg", values)
        return ResNetConfig(**{"image_size": 224, "width": 768} | values)
    values = open_clip_fields.VISION_TRANSFORMER.read("vision_cfg", values)
    defaults = {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12}
    return VisionConfig(**defaults | _tower("vision_cfg", values, quick_gelu))


def siglip_from_timm_name(timm_name: str, values: dict | None = None) -> SiglipVisionConfig:
    """The SigLIP tower that timm builds under a name, with some `values` of its own.

    Raises:
        ValueError: the name is another model's, or a value is not one that can be chosen.
    """
    size, patch_size, image_size = _require_siglip(timm_name)
    chosen = {"image_size": int(image_size), "activation": _timm_activation(timm_name)}
    chosen |= open_clip_fields.SIGLIP_OF_TIMM.read("vision_cfg", values or {})
    return SiglipVisionConfig(patch_size=int(patch_size), **SIGLIP_SIZES[size], **chosen)


def _require_siglip(timm_name: str) -> tuple[str, ...]:
    match = SIGLIP_NAME.fullmatch(timm_name)
    if match is None:
        raise ValueError(
            f"timm_model_name {quoted(timm_name)} is not built in: give timm's model to TwoTower"
        )
    return match.groups()


def _timm_activation(timm_name: str) -> str:
    return "gelu_tanh" if SIGLIP_TANH.fullmatch(timm_name) else "gelu"


def _text(values: dict, quick_gelu: bool) -> TextConfig:
    values = open_clip_fields.TEXT_TRANSFORMER.read("text_cfg", values)
    if values.get("tokenizer_kwargs") is None:
        values.pop("tokenizer_kwargs", None)
    defaults = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    return TextConfig(**defaults | _tower("text_cfg", values, quick_gelu))


def _tower(where: str, values: dict, quick_gelu: bool) -> dict:
    """The keyword arguments of a tower of transformer blocks."""
    values = dict(values)
    arguments = {"activation": "quick_gelu" if quick_gelu else "gelu"}
    act_kwargs = values.pop("act_kwargs", None)
    if act_kwargs == {"approximate": "tanh"} and not quick_gelu:
        arguments["activation"] = "gelu_tanh"
    elif act_kwargs:
        raise ValueError(f"{where}: act_kwargs {quoted(act_kwargs)} is not supported")
    norm_kwargs = dict(values.pop("norm_kwargs", None) or {})
    if "eps" in norm_kwargs:
        arguments["norm_eps"] = norm_kwargs.pop("eps")
    if norm_kwargs:
        raise ValueError(f"{where}: norm_kwargs {quoted(norm_kwargs)} is not supported")
    return arguments | values


def _vision_json(
    config: VisionConfig | SiglipVisionConfig | ResNetConfig, quick_gelu: bool
) -> dict:
    image_size = _one_if_square(config.image_size)
    if isinstance(config, ResNetConfig):
        values = asdict(config) | {"layers": list(config.layers), "patch_size": None}
    elif isinstance(config, SiglipVisionConfig):
        values = _siglip_json(config)
    else:
        values = _tower_json(config, quick_gelu)
    return values | {"image_size": image_size}


def _siglip_json(config: SiglipVisionConfig) -> dict:
    for size, numbers in SIGLIP_SIZES.items():
        name = f"vit_{size}_patch{config.patch_size}_siglip_{config.image_size[0]}"
        named = SiglipVisionConfig(config.image_size, config.patch_size, **numbers)
        shape = ("width", "layers", "heads", "mlp_ratio", "norm_eps")
        if all(getattr(named, f) == getattr(config, f) for f in shape):
            values = {"timm_model_name": name, "timm_model_pretrained": False}
            values |= {"timm_pool": "map", "timm_proj": "none"}
            if config.activation != _timm_activation(name):
                values["activation"] = config.activation
            for field in ("patch_dropout", "output_tokens"):
                if getattr(config, field):
                    values[field] = getattr(config, field)
            return values
    return asdict(config) | {"pool_type": "map"}


def _tower_json(config: VisionConfig | TextConfig, quick_gelu: bool) -> dict:
    defaults = _defaults(type(config))
    values = {k: v for k, v in asdict(config).items() if k not in defaults or v != defaults[k]}
    if (eps := values.pop("norm_eps", None)) is not None:
        values["norm_kwargs"] = {"eps": eps}
    values.pop("activation", None)
    if config.activation == "gelu_tanh" and not quick_gelu:
        values["act_kwargs"] = {"approximate": "tanh"}
    elif config.activation != ("quick_gelu" if quick_gelu else "gelu"):
        values["activation"] = config.activation
    return values


def _one_if_square(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def _defaults(cls: type) -> dict:
    """The fields of a dataclass that have a default, with it."""
    values = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    made = {f.name: f.default_factory() for f in fields(cls) if f.default_factory is not MISSING}
    return values | made
