"""Model configurations as JSON, with open_clip's fields.

Some configurations need fields that open_clip does not have and that its reader refuses: a tower
whose activation neither `quick_gelu` nor `act_kwargs` can express, grey images, and towers of
SigLIP, ConvNeXt and PE-Core in sizes that timm has no name for. `is_portable` says whether a
configuration needs none of them.

Source: the model configurations of open_clip_torch 3.3.0.
"""

from collections.abc import Mapping
from typing import Any

from fastclip.data.quoting import first_line, quoted
from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.config import MultimodalConfig
from fastclip.models.open_clip_fields import json_fields, names_of
from fastclip.models.towers.block_json import defaults_of
from fastclip.models.towers.table import text_tower_told_by, tower_told_by

MODEL_FIELDS = json_fields(names_of(ClipConfig) | {"quick_gelu"}, {}, {})


def from_json(values: dict) -> ClipConfig:
    """Read a model's configuration from open_clip's JSON.

    Every field is obeyed or refused, unless it cannot change a result: see `open_clip_fields.py`
    and the configuration of each tower.

    Raises:
        ValueError: a field is missing or unknown, or asks for a tower that is not built in.
    """
    for tower in ("vision_cfg", "text_cfg"):
        if not isinstance(values.get(tower), dict):
            raise ValueError(
                f"not a model configuration: {tower} must be an object, got "
                f"{quoted(values.get(tower))}"
            )
    values = MODEL_FIELDS.read("the model", values)
    quick_gelu = bool(values.pop("quick_gelu", False))
    vision, text = values["vision_cfg"], values["text_cfg"]
    text_tower = text_tower_told_by(text)
    try:
        towers = {
            "vision_cfg": tower_told_by(vision).from_json(vision, quick_gelu),
            "text_cfg": text_tower.from_json(text, quick_gelu),
        }
        if values.get("multimodal_cfg") is not None:
            tower = towers["text_cfg"]
            usual = tower.decoder_vocabulary
            written = tower.vocab_size if usual is None else text.get("vocab_size", usual)
            towers["multimodal_cfg"] = MultimodalConfig.from_json(
                values["multimodal_cfg"], quick_gelu, tower.vocab_size, written
            )
        custom_text = bool(values.get("custom_text")) or text_tower.stands_alone
        return ClipConfig(**values | towers | {"custom_text": custom_text})
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a model configuration: {first_line(error)}") from error


def to_json(config: ClipConfig) -> dict:
    """Return a model's configuration as open_clip's JSON, without values that are its defaults."""
    quick_gelu = {*config.activations} - {None} == {"quick_gelu"}
    size = config.vision_cfg.image_size
    image_size = {"image_size": size[0] if size[0] == size[1] else list(size)}
    values: dict = {
        "embed_dim": config.embed_dim,
        "vision_cfg": config.vision_cfg.to_json(quick_gelu) | image_size,
        "text_cfg": config.text_cfg.to_json(quick_gelu),
    }
    if config.multimodal_cfg is not None:
        decoder = config.multimodal_cfg.to_json(quick_gelu, config.text_cfg.vocab_size)
        values["multimodal_cfg"] = decoder
        if config.text_cfg.decoder_vocabulary not in (None, decoder["vocab_size"]):
            values["text_cfg"]["vocab_size"] = decoder["vocab_size"]  # where open_clip looks
    if quick_gelu:
        values["quick_gelu"] = True
    optional = ("custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale")
    for name in optional:
        value = getattr(config, name)
        if value != defaults_of(ClipConfig)[name]:
            values[name] = value
    return values


def file_values(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `open_clip_config.json` for a model, from the values of `to_json`.

    open_clip looks up the sizes of a Hugging Face text encoder by its name. Here the file keeps
    them as well, outside of `model_cfg`, where open_clip would refuse an unknown field.
    """
    text = {name: value for name, value in model["text_cfg"].items() if name != "hf_config"}
    values = {"model_cfg": {**model, "text_cfg": text}}
    encoder = model["text_cfg"].get("hf_config")
    return values if encoder is None else {**values, "hf_config": encoder}


def from_file_values(values: Mapping[str, Any]) -> ClipConfig:
    """Read a model's configuration from these fields: the reverse of `file_values`.

    Raises:
        ValueError: as `from_json`.
    """
    model, encoder = values["model_cfg"], values.get("hf_config")
    if encoder is None:
        return from_json(model)
    return from_json({**model, "text_cfg": {**model["text_cfg"], "hf_config": encoder}})


def is_portable(config: ClipConfig) -> bool:
    """Whether open_clip can read `to_json(config)`."""
    values = to_json(config)
    towers = values["vision_cfg"], values["text_cfg"], values.get("multimodal_cfg", {})
    are_portable = config.vision_cfg.is_portable() and config.text_cfg.is_portable()
    return are_portable and not any("activation" in tower for tower in towers)
