"""A model's configuration from the shapes of its tensors.

Shapes tell widths, depths and sizes. They do not tell the activation, which the caller must know,
nor the number of heads and how a text is read. Of a tower that is like a published one in all that
shapes tell, these are known; of another one, the caller must say the heads, and then says too that
the tower is read as OpenAI's or SigLIP's: images of the class token, texts at the largest id behind
a causal mask, and epsilons as published. Images are taken to be square.
"""

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.config import (
    DEFAULT_LOGIT_SCALE,
    SIGLIP_LOGIT_BIAS,
    SIGLIP_LOGIT_SCALE,
    ClipConfig,
    ResNetConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionConfig,
)
from fastclip.models.mlp_ratio import mlp_ratio
from fastclip.models.presets import PRESETS, siglip_tokenizer_of

# In OpenAI's models a head has 64 channels, always: openai/CLIP has no other.
OPENAI_HEAD_WIDTH = 64
Tower = VisionConfig | SiglipVisionConfig | ResNetConfig | TextConfig


def infer_config(
    tensors: dict[str, Tensor],
    activation: str | tuple[str, str] | None,
    heads: int | tuple[int, int] | None = None,
    is_openai: bool = False,
) -> ClipConfig:
    """The configuration that tensors under OpenAI's or open_clip's names belong to.

    Args:
        tensors: the whole state dict of a model.
        activation: of both towers, or of the vision and of the text tower, see
            `fastclip.models.activations`; None if it is not known.
        heads: attention heads of both towers, or of the vision and of the text tower; None where
            a published model, or OpenAI's format, tells them.
        is_openai: the tensors are of a file in OpenAI's format.

    Raises:
        CheckpointError: a tensor that tells a size is missing, the model is of a kind whose readout
            the shapes do not tell, `activation` is None, `heads` is None and needed, or one number
            that fits one tower and is not what the other is known to have.
        ValueError: `heads` does not divide the width of its tower, or `activation` or `heads` are
            several values and not two.

    Example:
        config = infer_config(torch.load("own.pt"), "gelu", heads=(12, 8))
    """
    if activation is None:
        raise CheckpointError(
            "these weights do not say which activation they were trained with: give "
            "activation='quick_gelu' (OpenAI, MetaCLIP, DFN) or 'gelu' (LAION, DataComp), or the "
            "name of the model"
        )
    vision_activation, text_activation = both_towers("activation", activation)
    vision_heads, text_heads = both_towers("heads", heads)
    try:
        is_siglip = "visual.trunk.attn_pool.latent" in tensors
        if is_siglip:
            vision = _siglip_vision(tensors, vision_activation, vision_heads)
            text = _siglip_text(tensors, text_activation, text_heads)
            embed_dim = vision.width
        elif "visual.conv1.weight" in tensors and "visual.proj" in tensors:
            vision = _vision_transformer(tensors, vision_activation, vision_heads, is_openai)
            text = _text(tensors, text_activation, text_heads, is_openai)
            embed_dim = _sizes(tensors, "visual.proj", 2)[1]
        else:
            vision = _resnet(tensors, vision_heads, is_openai)
            text = _text(tensors, text_activation, text_heads, is_openai)
            embed_dim = _sizes(tensors, "visual.attnpool.c_proj.weight", 2)[0]
    except KeyError as error:
        raise CheckpointError(
            f"the architecture cannot be inferred: there is no tensor {error}; give the name of "
            "the model"
        ) from None
    has_bias = "logit_bias" in tensors
    config = ClipConfig(
        embed_dim, vision, text,
        custom_text="text.token_embedding.weight" in tensors,
        init_logit_scale=SIGLIP_LOGIT_SCALE if has_bias else DEFAULT_LOGIT_SCALE,
        init_logit_bias=SIGLIP_LOGIT_BIAS if has_bias else None,
    )  # fmt: skip
    if isinstance(activation, str):
        _require_one_activation(config)
    if heads is not None and not isinstance(heads, (tuple, list)):
        _require_one_number_of_heads(config, heads, is_openai)
    return config


def both_towers(argument: str, value: Any) -> tuple[Any, Any]:
    """One value for both towers, or the vision and the text tower's.

    Raises:
        ValueError: there are several values, and not two.
    """
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{argument} must be one value or two, got {value!r}")
    return value[0], value[1]


def _require_one_activation(config: ClipConfig) -> None:
    """Raise if a published model of these sizes has another activation in each tower."""
    for name, published in PRESETS.items():
        vision, text = published.activations
        if vision in (None, text) or _shape(published.text_cfg) != _shape(config.text_cfg):
            continue
        if published.vision_cfg == replace(config.vision_cfg, activation=vision):
            raise CheckpointError(
                f"{name}, which has these sizes, has activation {vision} in the vision tower and "
                f"{text} in the text tower: give both, or the name of the model"
            )


def _require_one_number_of_heads(config: ClipConfig, told: int, is_openai: bool) -> None:
    """Raise if the number fits what is known of one tower only: it may be meant for the other."""
    known = {
        "vision": _known_heads(config.vision_cfg, is_openai),
        "text": _known_heads(config.text_cfg, is_openai),
    }
    others = {name: heads for name, heads in known.items() if heads not in (None, told)}
    if len(others) == 1:
        ((name, heads),) = others.items()
        raise CheckpointError(
            f"heads {told} for both towers, but the {name} tower is like a published one, which "
            f"has {heads}: give two numbers, the vision and the text tower's"
        )


def _vision_transformer(
    tensors: dict[str, Tensor], activation: str, heads: int | None, is_openai: bool
) -> VisionConfig:
    if "visual.ln_pre.weight" not in tensors:
        raise CheckpointError(
            "a vision tower without ln_pre: shapes do not tell how it is read out; give the name "
            "of the model"
        )
    width, channels, _, patch_size = _sizes(tensors, "visual.conv1.weight", 4)
    blocks = "visual.transformer.resblocks."
    positions = "visual.positional_embedding"
    grid = _side(_sizes(tensors, positions, 2)[0] - 1, positions)
    scale = tensors.get(f"{blocks}0.ls_1.gamma")
    tower = VisionConfig(
        grid * patch_size, patch_size, width, _depth(tensors, blocks), head_width=width,
        mlp_ratio=mlp_ratio(*_sizes(tensors, f"{blocks}0.mlp.c_fc.weight", 2)),
        activation=activation,
        ls_init_value=None if scale is None else 1e-4,
        channels=channels,
    )  # fmt: skip
    return replace(tower, head_width=width // _heads("vision", tower, heads, is_openai))


def _siglip_vision(
    tensors: dict[str, Tensor], activation: str, heads: int | None
) -> SiglipVisionConfig:
    trunk = "visual.trunk."
    width, _, _, patch_size = _sizes(tensors, f"{trunk}patch_embed.proj.weight", 4)
    grid = _side(_sizes(tensors, f"{trunk}pos_embed", 3)[1], f"{trunk}pos_embed")
    tower = SiglipVisionConfig(
        grid * patch_size, patch_size, width, _depth(tensors, f"{trunk}blocks."), heads=1,
        mlp_ratio=mlp_ratio(*_sizes(tensors, f"{trunk}blocks.0.mlp.fc1.weight", 2)),
        activation=activation,
    )  # fmt: skip
    return replace(tower, heads=_heads("vision", tower, heads))


def _resnet(tensors: dict[str, Tensor], heads: int | None, is_openai: bool) -> ResNetConfig:
    positions = "visual.attnpool.positional_embedding"
    grid = _side(_sizes(tensors, positions, 2)[0] - 1, positions)
    layers = tuple(_depth(tensors, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
    width = _sizes(tensors, "visual.layer1.0.conv1.weight", 4)[0]
    tower = ResNetConfig(grid * 32, layers, width, head_width=width * 32)
    return replace(tower, head_width=width * 32 // _heads("vision", tower, heads, is_openai))


def _text(
    tensors: dict[str, Tensor], activation: str, heads: int | None, is_openai: bool
) -> TextConfig:
    prefix = _text_prefix(tensors)
    if f"{prefix}text_projection" not in tensors:
        raise KeyError(f"{prefix}text_projection")
    tower = TextConfig(heads=1, **_text_sizes(tensors, activation))
    # The end token and the tokenizer of a multilingual model are known with its vocabulary.
    known = PUBLISHED.get(_shape(tower), tower)
    return replace(
        known, heads=_heads("text", tower, heads, is_openai), activation=activation,
        context_length=tower.context_length, mlp_ratio=tower.mlp_ratio,
    )  # fmt: skip


def _siglip_text(tensors: dict[str, Tensor], activation: str, heads: int | None) -> TextConfig:
    sizes = _text_sizes(tensors, activation)
    has_projection = f"{_text_prefix(tensors)}text_projection.weight" in tensors
    tower = TextConfig(
        heads=1, **sizes, no_causal_mask=True, pool_type="last", norm_eps=1e-6,
        proj_bias=has_projection, proj_type="linear" if has_projection else "none",
        hf_tokenizer_name=siglip_tokenizer_of(sizes["vocab_size"]),
        tokenizer_kwargs={"clean": "canonicalize"},
    )  # fmt: skip
    return replace(tower, heads=_heads("text", tower, heads))


def _text_prefix(tensors: dict[str, Tensor]) -> str:
    return "text." if "text.token_embedding.weight" in tensors else ""


def _text_sizes(tensors: dict[str, Tensor], activation: str) -> dict[str, Any]:
    prefix = _text_prefix(tensors)
    vocab_size, width = _sizes(tensors, f"{prefix}token_embedding.weight", 2)
    blocks = f"{prefix}transformer.resblocks."
    return dict(
        context_length=_sizes(tensors, f"{prefix}positional_embedding", 2)[0],
        vocab_size=vocab_size,
        width=width,
        layers=_depth(tensors, blocks),
        mlp_ratio=mlp_ratio(*_sizes(tensors, f"{blocks}0.mlp.c_fc.weight", 2)),
        activation=activation,
    )


def _shape(tower: Tower) -> tuple:
    """What shapes tell of a tower, but for the size of images, of patches and of texts."""
    if isinstance(tower, ResNetConfig):
        return ResNetConfig, tower.width, tower.layers
    sizes = tower.width, tower.layers, int(tower.width * tower.mlp_ratio)
    if isinstance(tower, TextConfig):
        is_siglip = tower.norm_eps == 1e-6
        return TextConfig, *sizes, tower.vocab_size, is_siglip
    return type(tower), *sizes


# Towers of published models, by what shapes tell of them.
PUBLISHED = {
    _shape(tower): tower
    for config in PRESETS.values()
    for tower in (config.vision_cfg, config.text_cfg)
}


def _heads(name: str, tower: Tower, told: int | None, is_openai: bool = False) -> int:
    width = _width(tower)
    if told is not None:
        if not isinstance(told, int) or told < 1 or width % told:
            raise ValueError(
                f"heads of the {name} tower must divide its width {width}, got {told!r}"
            )
        return told
    known = _known_heads(tower, is_openai)
    if known is None:
        vocabulary = getattr(tower, "vocab_size", None)
        tokens = "" if vocabulary is None else f", {vocabulary} tokens"
        raise CheckpointError(
            f"the {name} tower has width {width}, {tower.layers} layers{tokens}: no published "
            "model has such a tower, and shapes do not tell how many attention heads it has. Give "
            "heads= (fastclip convert: --heads), one number or the vision and the text tower's, or "
            "the name or the configuration of the model"
        )
    return known


def _known_heads(tower: Tower, is_openai: bool) -> int | None:
    """What OpenAI's format, or a published tower like this one, tells of heads."""
    if is_openai and _width(tower) >= OPENAI_HEAD_WIDTH:
        return _width(tower) // OPENAI_HEAD_WIDTH
    published = PUBLISHED.get(_shape(tower))
    return None if published is None else published.heads


def _width(tower: Tower) -> int:
    return tower.width * 32 if isinstance(tower, ResNetConfig) else tower.width


def _sizes(tensors: dict[str, Tensor], name: str, num: int) -> tuple[int, ...]:
    shape = tuple(tensors[name].shape)
    if len(shape) != num or 0 in shape:
        raise CheckpointError(
            f"{name} has shape {shape}, a model's has {num} sizes of 1 at least: the architecture "
            "cannot be inferred"
        )
    return shape


def _depth(tensors: dict[str, Tensor], prefix: str) -> int:
    found = {name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)}
    if not found:
        raise KeyError(f"{prefix}0")
    return len(found)


def _side(num_positions: int, name: str) -> int:
    side = math.isqrt(num_positions)
    if side * side != num_positions:
        raise CheckpointError(
            f"{name} has {num_positions} positions, not a square: give a configuration"
        )
    return side
