"""Describing a `TwoTower` as JSON, from which it can be built again if its encoders are known.

    timm           the model's name, `num_classes`, `global_pool`, and timm's pretrained_cfg
    transformers   the class and its configuration
    other modules  the name of the class, for people to read: loading needs the module itself

A description is checked before it is written: an encoder built from it, without data, must have the
same modules, parameters and settings as the original. An encoder that was changed after it was
made, or was made with arguments that nothing records, is described as one of the other modules; so
is a tower whose projection was replaced. A module that both sides share is shared again.

A description names no code except models of timm and of transformers.
"""

import importlib
import math
import re
from typing import Any

import torch
from torch import nn

from fastclip.data.limits import LARGEST_VOCABULARY, LARGEST_WIDTH, MOST_LAYERS
from fastclip.data.quoting import first_line, named, quoted, some_of
from fastclip.models.checkpoints.errors import SHOWN, CheckpointError
from fastclip.models.encoder_tower import EncoderTower
from fastclip.models.model_settings import set_model_preprocess_cfg
from fastclip.models.module_settings import PLAIN, settings_of
from fastclip.models.two_tower import TwoTower

TWO_TOWER_CONFIG = "two_tower_config.json"
TWO_TOWER_WEIGHTS = "model.safetensors"
SHARED = ("tower", "encoder")  # the parts that may be one module on both sides
# Arguments that a description may give to an encoder: none of them names other files or code.
ARGUMENTS = {
    "timm": {"num_classes", "global_pool", "img_size"},
    "transformers": {"add_pooling_layer"},
}
TIMM_NAME = re.compile(r"\w[\w.]*")
# The largest sizes in a configuration of transformers', by a part of their names.
LARGEST = {
    "layers": MOST_LAYERS, "vocab": LARGEST_VOCABULARY, "positions": LARGEST_VOCABULARY,
    "size": LARGEST_WIDTH, "dim": LARGEST_WIDTH, "channels": LARGEST_WIDTH,
}  # fmt: skip


def describe(model: TwoTower) -> dict[str, Any]:
    """Return the description of a model as values of JSON."""
    return {
        "output_dict": model.output_dict,
        "has_logit_bias": model.logit_bias is not None,
        "nonscalar_logit_scale": model.logit_scale.ndim == 1,
        "preprocess_cfg": getattr(model.visual, "preprocess_cfg", None),
        "shared": _shared(model),
        "image": _describe_tower(model.visual),
        "text": _describe_tower(model.text),
    }


def rebuild(
    values: dict[str, Any],
    image_encoder: nn.Module | None = None,
    text_encoder: nn.Module | None = None,
) -> TwoTower:
    """Return the model of a description, with random weights.

    Args:
        image_encoder, text_encoder: the encoders that the model was made with; for encoders that
            are neither timm's nor transformers'.

    Raises:
        CheckpointError: the description is damaged, or an encoder is needed and not given.
        ImportError: timm or transformers is needed and not installed.
    """
    try:
        shared = values.get("shared")
        if shared not in (None, *SHARED):
            raise CheckpointError(f"{TWO_TOWER_CONFIG} is damaged: 'shared' is {quoted(shared)}")
        if shared is not None:  # the caller may give only one of the two
            image_encoder = text_encoder if image_encoder is None else image_encoder
        image_tower = _rebuild_tower("image", values["image"], image_encoder)
        if shared == "encoder" and text_encoder is None:
            text_encoder = image_tower.encoder
        text_tower = (
            image_tower
            if shared == "tower"
            else _rebuild_tower("text", values["text"], text_encoder)
        )
        model = TwoTower(
            image_tower, text_tower,
            init_logit_bias=0.0 if values["has_logit_bias"] else None,
            output_dict=values["output_dict"],
            nonscalar_logit_scale=values["nonscalar_logit_scale"],
        )  # fmt: skip
        preprocess = values["preprocess_cfg"]
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{TWO_TOWER_CONFIG} is damaged: {reason}") from error
    if preprocess is not None:
        set_model_preprocess_cfg(model, preprocess)
    return model


def _describe_tower(tower: nn.Module) -> dict[str, Any]:
    projection, encoder = None, tower
    if isinstance(tower, EncoderTower):
        if type(tower.proj) is not nn.Linear or tower.proj.bias is not None:
            return {"projection": None, "encoder": _unknown(tower)}
        encoder = tower.encoder
        projection = {
            "embed_dim": tower.output_dim, "width": tower.proj.in_features, "pool": tower.pool,
        }  # fmt: skip
    return {"projection": projection, "encoder": _describe_encoder(encoder)}


def _describe_encoder(encoder: nn.Module) -> dict[str, Any]:
    for candidate in _candidates(encoder):
        try:
            with torch.device("meta"):
                again = _build(candidate)
        except Exception:  # whatever timm or transformers raise: the candidate is not right
            continue
        if _are_alike(encoder, again):
            return candidate
    return _unknown(encoder)


def _unknown(module: nn.Module) -> dict[str, Any]:
    return {"library": None, "class": f"{type(module).__module__}.{type(module).__qualname__}"}


def _shared(model: TwoTower) -> str | None:
    if model.visual is model.text:
        return "tower"
    towers = (model.visual, model.text)
    if not all(isinstance(tower, EncoderTower) for tower in towers):
        return None
    return "encoder" if model.visual.encoder is model.text.encoder else None


def _candidates(encoder: nn.Module) -> list[dict[str, Any]]:
    if hasattr(encoder, "pretrained_cfg") and type(encoder).__module__.startswith("timm."):
        cfg = dict(encoder.pretrained_cfg)
        arguments = {"num_classes": encoder.num_classes}
        if getattr(encoder, "global_pool", None) is not None:
            arguments["global_pool"] = encoder.global_pool
        size = getattr(getattr(encoder, "patch_embed", None), "img_size", None)
        settings = [arguments, {"num_classes": encoder.num_classes}]
        if size is not None:
            settings.append({**arguments, "img_size": list(size)})
        known = {"library": "timm", "name": cfg["architecture"], "pretrained_cfg": _jsonable(cfg)}
        return [{**known, "arguments": each} for each in settings if _is_plain(each)]
    if type(encoder).__module__.startswith("transformers.") and hasattr(encoder, "config"):
        known = {
            "library": "transformers",
            "class": type(encoder).__name__,
            "config_class": type(encoder.config).__name__,
            "config": _jsonable(encoder.config.to_dict()),
        }
        return [{**known, "arguments": each} for each in ({}, {"add_pooling_layer": False})]
    return []


def _build(values: dict[str, Any]) -> nn.Module:
    if unknown := sorted(set(values["arguments"]) - ARGUMENTS[values["library"]]):
        raise CheckpointError(
            f"{TWO_TOWER_CONFIG} is damaged: it gives an encoder the unknown arguments "
            f"{some_of(unknown, SHOWN)}"
        )
    if values["library"] == "timm":
        if not TIMM_NAME.fullmatch(values["name"]):
            raise CheckpointError(
                f"{TWO_TOWER_CONFIG} is damaged: timm has no model {quoted(values['name'])}"
            )
        timm = importlib.import_module("timm")
        return timm.create_model(values["name"], pretrained=False, **values["arguments"])
    transformers = importlib.import_module("transformers")
    cls, config_class = (getattr(transformers, values[key]) for key in ("class", "config_class"))
    if not issubclass(cls, transformers.PreTrainedModel):
        raise TypeError(f"transformers has no model {values['class']!r}")
    if not issubclass(config_class, transformers.PreTrainedConfig):
        raise TypeError(f"transformers has no configuration {values['config_class']!r}")
    _require_bounded(values["config"])
    return cls(config_class.from_dict(values["config"]), **values["arguments"])


def _require_bounded(config: dict[str, Any]) -> None:
    """Raise if a configuration has larger sizes than any model, or asks for other people's code."""
    for name, value in config.items():
        if isinstance(value, dict):
            _require_bounded(value)
        most = next((most for word, most in LARGEST.items() if word in name), math.inf)
        is_large = isinstance(value, int) and value > most
        # In this field transformers takes a repository's name, and would fetch kernels from it.
        if is_large or (name.endswith("attn_implementation") and "/" in str(value)):
            raise CheckpointError(
                f"{TWO_TOWER_CONFIG} is damaged: {named(name)} is {quoted(value)}"
            )


def _rebuild_tower(side: str, values: dict[str, Any], given: nn.Module | None) -> nn.Module:
    encoder, projection = given, values["projection"]
    if encoder is None:
        if values["encoder"]["library"] not in ("timm", "transformers"):
            raise CheckpointError(
                f"the {side} encoder is a {values['encoder']['class']}, which fastclip cannot "
                f"build: give the encoder that the model was made with as {side}_encoder="
            )
        encoder = _build(values["encoder"])
    if projection is None or isinstance(encoder, EncoderTower):
        return encoder
    return EncoderTower(encoder, **projection)


def _are_alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether both have the same modules with the same settings, and tensors of the same shapes."""
    first, second = dict(one.named_modules()), dict(other.named_modules())
    return (
        first.keys() == second.keys()
        and all(type(first[name]) is type(second[name]) for name in first)
        and all(settings_of(first[name]) == settings_of(second[name]) for name in first)
        and _shapes(one) == _shapes(other)
    )


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


def _is_plain(values: dict[str, Any]) -> bool:
    return all(isinstance(value, PLAIN) for value in values.values())


def _jsonable(value: Any) -> Any:
    """Return a copy of nested values in which values that JSON does not have are their text."""
    if isinstance(value, dict):
        return {str(name): _jsonable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(each) for each in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
