"""Calls any pair of towers in one way, and gives its outputs the same names.

fastclip, open_clip   model(images, texts) returns (image_features, text_features, logit_scale
                      [, logit_bias]), or a mapping with those names
transformers          model(pixel_values=, input_ids=, attention_mask=, ...) returns an object
                      with image_embeds and text_embeds; the scale is the model's parameter
                      logit_scale, a logarithm, and the bias its logit_bias

A model that writes captions, such as `CoCa`, also returns the loss of each sample's caption; a loss
receives this, and everything else, by name.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastclip.models.coca.calls import captions_as

Batch = Tensor | Mapping[str, Tensor]
FEATURES = {"image_features": "image_embeds", "text_features": "text_embeds"}
OF_PAIRS = (*FEATURES, "logit_scale", "logit_bias")
OF_CAPTIONS = ("caption_losses", "caption_tokens")
OUTPUTS = (*OF_PAIRS, *OF_CAPTIONS)
OF_SAMPLES = {*FEATURES, *OF_CAPTIONS}  # with a row per sample


def call(
    model: nn.Module, images: Batch, texts: Batch, captions: str = "losses"
) -> dict[str, Tensor]:
    """Encode a micro-batch.

    Args:
        model: a pair of towers, which may be wrapped.
        images: (B, channels, height, width), or a mapping of tensors with B rows each for a model
            that takes them by name.
        texts: (B, T) tokens, or such a mapping.
        captions: what a model that writes captions returns about them, "losses" or "none".

    Returns:
        image_features (B, D), text_features (B, D), logit_scale () or (1,), multiplicative, and
        logit_bias () or (1,) if the model has one; caption_losses (B,) and caption_tokens (B,) if
        it writes captions, see `CoCa.forward`.

    Raises:
        TypeError: the model returns no features or no scale.
    """
    core = _core(model)
    names = inspect.signature(core.forward).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in names.values())
    inputs = {
        **(images if isinstance(images, Mapping) else {"pixel_values": images}),
        **(texts if isinstance(texts, Mapping) else {"input_ids": texts}),
    }
    by_name = {"pixel_values", "input_ids"} <= names.keys()
    if not by_name or not (takes_any or inputs.keys() <= names.keys()):
        return _named(model(images, texts, **captions_as(captions, core)), core)
    if takes_any or "return_dict" in names:
        inputs["return_dict"] = True  # a tuple from transformers would begin with logits
    return _named(model(**inputs), core)


def length(batch: Batch) -> int:
    """Return the number of samples, B.

    Raises:
        ValueError: the tensors of a mapping have different numbers of rows.
    """
    sizes = {len(part) for part in tensors_of(batch)}
    if len(sizes) != 1:
        shapes = {name: tuple(part.shape) for name, part in batch.items()}
        raise ValueError(f"the tensors of a batch must have equally many rows, got {shapes}")
    return sizes.pop()


def rows_of(batch: Batch, rows: slice) -> Batch:
    if isinstance(batch, Mapping):
        return {name: part[rows] for name, part in batch.items()}
    return batch[rows]


def tensors_of(batch: Batch) -> list[Tensor]:
    return list(batch.values()) if isinstance(batch, Mapping) else [batch]


def _core(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of DistributedDataParallel, torch.compile and peft."""
    while True:
        if isinstance(model, DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        elif hasattr(model, "get_base_model"):
            return model.get_base_model()
        else:
            return model


def _named(result: Any, core: nn.Module) -> dict[str, Tensor]:
    if isinstance(result, tuple | list):
        found = dict(zip(OF_PAIRS, result, strict=False))
    else:
        found = {name: _entry(result, name) for name in OUTPUTS}
        if all(_entry(result, name) is not None for name in FEATURES.values()):
            found = {name: _entry(result, theirs) for name, theirs in FEATURES.items()}
            if isinstance(getattr(core, "logit_scale", None), Tensor):
                found["logit_scale"] = core.logit_scale.exp()
            found["logit_bias"] = getattr(core, "logit_bias", None)
    found = {name: value for name, value in found.items() if value is not None}
    missing = [name for name in OF_PAIRS[:3] if name not in found]
    if missing:
        raise TypeError(
            f"{type(core).__name__} returned no {' and no '.join(missing)}, but {_told(result)}. A "
            "model must return (image_features, text_features, logit_scale[, logit_bias]), a "
            "mapping with those names, or transformers' image_embeds and text_embeds, with its "
            "logit_scale as a parameter; a model that returns logits needs a module around it that "
            "returns features"
        )
    return found


def _entry(result: Any, name: str) -> Any:
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def _told(result: Any) -> str:
    if isinstance(result, Mapping):
        return f"a mapping with {list(result)}"
    if isinstance(result, tuple | list):
        return f"a {type(result).__name__} of {len(result)}"
    return f"a {type(result).__name__}"
