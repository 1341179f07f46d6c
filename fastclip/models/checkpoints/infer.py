"""Inferring a model's configuration from the shapes of its tensors.

Shapes determine widths, depths and sizes. They do not determine the activation, which the caller
must know, nor the number of heads and where a text's feature is read. If a tower has all sizes of a
published tower, the heads and the readout are taken from that one. For another tower the caller
must give the heads, and the readout is assumed to be OpenAI's or SigLIP's: images are read at the
class token, texts at their largest id with a causal mask, and epsilons are the published ones.
Images are assumed to be square.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.infer_coca import is_coca, published_coca
from fastclip.models.clip_config import (
    DEFAULT_LOGIT_SCALE,
    SIGLIP_LOGIT_BIAS,
    SIGLIP_LOGIT_SCALE,
    ClipConfig,
)
from fastclip.models.presets import PRESETS
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.towers.table import text_tower_with_weights_in, tower_with_weights_in
from fastclip.models.towers.text.config import TextConfig
from fastclip.models.towers.text_config import TextTowerConfig

# In OpenAI's models every head has 64 channels: openai/CLIP has no other heads.
OPENAI_HEAD_WIDTH = 64
Tower = ImageTowerConfig | TextTowerConfig


def infer_config(
    tensors: Mapping[str, Tensor],
    activation: str | tuple[str, str] | None,
    heads: int | tuple[int, int] | None = None,
    is_openai: bool = False,
) -> ClipConfig:
    """Return the configuration of the model with these tensors.

    Args:
        tensors: the whole state dict of a model, under OpenAI's or open_clip's names.
        activation: one for both towers, or one for the vision and one for the text tower, see
            `fastclip.models.parts.activations`; None if it is not known.
        heads: the number of attention heads of both towers, or of the vision and of the text
            tower; None where a published model, or OpenAI's format, determines them.
        is_openai: whether the tensors come from a file in OpenAI's format.

    Raises:
        CheckpointError: a tensor that determines a size is missing; the shapes do not determine
            the readout of such a model; `activation` is None; `heads` is needed and None, or is one
            number where one of the towers is known to have another.
        ValueError: `heads` does not divide the width of its tower, or `activation` or `heads` has
            several values and not two.

    Example:
        config = infer_config(torch.load("own.pt"), "gelu", heads=(12, 8))
    """
    if activation is None:
        raise CheckpointError(
            "these weights do not say which activation they were trained with: give "
            "activation='quick_gelu' (OpenAI, MetaCLIP, DFN) or 'gelu' (LAION, DataComp), or the "
            "name of the model (fastclip convert: --activation or --model)"
        )
    vision_activation, text_activation = both_towers("activation", activation)
    vision_heads, text_heads = both_towers("heads", heads)
    if is_coca(tensors):
        return published_coca(
            tensors, (vision_activation, text_activation), (vision_heads, text_heads)
        )
    tower = tower_with_weights_in(tensors)
    if tower is None:
        raise CheckpointError(
            "the architecture cannot be inferred: there is no tensor of a built-in image tower in "
            "the weights; give the name of the model"
        )
    try:
        vision, embed_dim = tower.of_weights(tensors, vision_activation)
        vision = _with_heads("vision", vision, vision_heads, is_openai and tower.is_openais)
        text_tower = text_tower_with_weights_in(tensors)
        if text_tower is None:
            text = _as_published(tower.text_of_weights(tensors, text_activation))
        else:
            text = text_tower.of_weights(tensors, text_activation)
        text = _with_heads("text", text, text_heads, is_openai and tower.is_openais)
    except KeyError as error:
        raise CheckpointError(
            f"the architecture cannot be inferred: there is no tensor {error} in the weights; give "
            "the name of the model"
        ) from None
    has_bias = "logit_bias" in tensors
    config = ClipConfig(
        embed_dim, vision, text,
        custom_text=text.stands_alone or "text.token_embedding.weight" in tensors,
        init_logit_scale=SIGLIP_LOGIT_SCALE if has_bias else DEFAULT_LOGIT_SCALE,
        init_logit_bias=SIGLIP_LOGIT_BIAS if has_bias else None,
    )  # fmt: skip
    if isinstance(activation, str):
        _require_one_activation(config)
    if heads is not None and not isinstance(heads, (tuple, list)):
        _require_one_number_of_heads(config, heads, is_openai)
    return config


def both_towers(argument: str, value: Any) -> tuple[Any, Any]:
    """Return the values of the vision and of the text tower, from one value for both or from two.

    Raises:
        ValueError: there are several values, and not two.
    """
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) != 2:
        raise ValueError(
            f"{argument} must be one value for both towers, or two for the vision and the text "
            f"tower, got {value!r}"
        )
    return value[0], value[1]


def _require_one_activation(config: ClipConfig) -> None:
    """Raise if a published model of these sizes has different activations in its two towers."""
    for name, published in PRESETS.items():
        vision, text = published.activations
        if None in (vision, text) or vision == text or config.vision_cfg.activation is None:
            continue
        if published.text_cfg.shape() != config.text_cfg.shape():
            continue
        if published.vision_cfg == replace(config.vision_cfg, activation=vision):
            raise CheckpointError(
                f"the published model {name} has these sizes and activation {vision} in the vision "
                f"tower and {text} in the text tower: give both activations, or the name of the "
                "model"
            )


def _require_one_number_of_heads(config: ClipConfig, told: int, is_openai: bool) -> None:
    """Raise if exactly one tower is known to have another number of heads.

    The number may then be meant for the other tower alone.
    """
    known = {
        "vision": _known_heads(config.vision_cfg, is_openai),
        "text": _known_heads(config.text_cfg, is_openai),
    }
    others = {name: heads for name, heads in known.items() if heads not in (None, told)}
    if len(others) == 1:
        ((name, heads),) = others.items()
        raise CheckpointError(
            f"heads {told} for both towers, but the {name} tower has the sizes of a published one "
            f"with {heads} heads: give two numbers, for the vision and for the text tower"
        )


def _as_published(text: TextConfig) -> TextConfig:
    """Return a text tower with the end token and the tokenizer of the published one of its sizes.

    The vocabulary of a multilingual model, which the shapes show, determines them.
    """
    known = PUBLISHED.get(text.shape())
    if known is None or text.hf_tokenizer_name is not None:
        return text
    return replace(
        known, heads=text.heads, activation=text.activation, context_length=text.context_length,
        mlp_ratio=text.mlp_ratio,
    )  # fmt: skip


# Towers of published models, by the sizes that shapes determine.
PUBLISHED = {
    tower.shape(): tower
    for config in PRESETS.values()
    for tower in (config.vision_cfg, config.text_cfg)
}


def _with_heads(name: str, tower: Tower, told: int | None, is_openai: bool) -> Any:
    if tower.heads is None:
        return tower
    width = tower.attention_width
    if told is not None:
        if not isinstance(told, int) or told < 1 or width % told:
            raise ValueError(
                f"heads of the {name} tower must divide its width {width}, got {told!r}"
            )
        return tower.with_heads(told)
    known = _known_heads(tower, is_openai)
    if known is None:
        vocabulary = getattr(tower, "vocab_size", None)
        tokens = "" if vocabulary is None else f", {vocabulary} tokens"
        raise CheckpointError(
            f"the {name} tower has width {width}, {tower.layers} layers{tokens}: no published "
            "model has such a tower, and shapes do not show how many attention heads it has. Give "
            "heads= (fastclip convert: --heads), one number for both towers or two for the vision "
            "and the text tower, or give the name or the configuration of the model"
        )
    return tower.with_heads(known)


def _known_heads(tower: Tower, is_openai: bool) -> int | None:
    """Return the heads that OpenAI's format or a published tower determines, or None."""
    if is_openai and tower.attention_width >= OPENAI_HEAD_WIDTH:
        return tower.attention_width // OPENAI_HEAD_WIDTH
    published = PUBLISHED.get(tower.shape())
    return None if published is None else published.heads
