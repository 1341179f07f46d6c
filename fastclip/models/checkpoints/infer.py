"""A model's configuration from the shapes of its tensors.

Shapes tell widths, depths and sizes. They do not tell the number of heads, which is taken from the
published models of that width, nor the activation, which the caller must know.
"""

import math

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
from fastclip.models.open_clip_config import SIGLIP_SIZES
from fastclip.models.presets import VISION_SIZES, siglip_tokenizer_of

HEAD_WIDTHS = {v["width"]: v.get("head_width", 64) for v in VISION_SIZES.values()}
SIGLIP_HEADS = {v["width"]: v["heads"] for v in SIGLIP_SIZES.values()}


def infer_config(tensors: dict[str, Tensor], activation: str | None) -> ClipConfig:
    """The configuration that tensors under OpenAI's or open_clip's names belong to.

    Args:
        tensors: the whole state dict of a model.
        activation: of both towers, see `fastclip.models.activations`; None if it is not known.

    Raises:
        CheckpointError: a tensor that tells a size is missing, a size is no published one, the
            model is of a kind whose readout the shapes do not tell, or `activation` is None.
    """
    if activation is None:
        raise CheckpointError(
            "these weights do not say which activation they were trained with: give "
            "activation='quick_gelu' (OpenAI, MetaCLIP, DFN) or 'gelu' (LAION, DataComp), or the "
            "name of the model"
        )
    try:
        is_siglip = "visual.trunk.attn_pool.latent" in tensors
        text = _text(tensors, activation, is_siglip)
        if is_siglip:
            vision = _siglip_vision(tensors, activation)
            embed_dim = vision.width
        elif "visual.conv1.weight" in tensors and "visual.proj" in tensors:
            vision = _vision_transformer(tensors, activation)
            embed_dim = tensors["visual.proj"].shape[1]
        else:
            vision = _resnet(tensors)
            embed_dim = tensors["visual.attnpool.c_proj.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(
            f"the architecture cannot be inferred: there is no tensor {error}; give the name of "
            "the model"
        ) from None
    has_bias = "logit_bias" in tensors
    return ClipConfig(
        embed_dim, vision, text,
        custom_text="text.token_embedding.weight" in tensors,
        init_logit_scale=SIGLIP_LOGIT_SCALE if has_bias else DEFAULT_LOGIT_SCALE,
        init_logit_bias=SIGLIP_LOGIT_BIAS if has_bias else None,
    )  # fmt: skip


def _vision_transformer(tensors: dict[str, Tensor], activation: str) -> VisionConfig:
    if "visual.ln_pre.weight" not in tensors:
        raise CheckpointError(
            "a vision tower without ln_pre: shapes do not tell how it is read out; give the name "
            "of the model"
        )
    width, _, _, patch_size = tensors["visual.conv1.weight"].shape
    blocks = "visual.transformer.resblocks."
    grid = _side(len(tensors["visual.positional_embedding"]) - 1, "visual.positional_embedding")
    scale = tensors.get(f"{blocks}0.ls_1.gamma")
    return VisionConfig(
        grid * patch_size, patch_size, width, _depth(tensors, blocks),
        head_width=HEAD_WIDTHS.get(width, 64),
        mlp_ratio=mlp_ratio(*tensors[f"{blocks}0.mlp.c_fc.weight"].shape),
        activation=activation,
        ls_init_value=None if scale is None else 1e-4,
        channels=tensors["visual.conv1.weight"].shape[1],
    )  # fmt: skip


def _siglip_vision(tensors: dict[str, Tensor], activation: str) -> SiglipVisionConfig:
    trunk = "visual.trunk."
    width, _, _, patch_size = tensors[f"{trunk}patch_embed.proj.weight"].shape
    if width not in SIGLIP_HEADS:
        raise CheckpointError(f"no published SigLIP model has width {width}; give a configuration")
    grid = _side(tensors[f"{trunk}pos_embed"].shape[1], f"{trunk}pos_embed")
    return SiglipVisionConfig(
        grid * patch_size, patch_size, width, _depth(tensors, f"{trunk}blocks."),
        heads=SIGLIP_HEADS[width],
        mlp_ratio=mlp_ratio(*tensors[f"{trunk}blocks.0.mlp.fc1.weight"].shape),
        activation=activation,
    )  # fmt: skip


def _resnet(tensors: dict[str, Tensor]) -> ResNetConfig:
    grid = _side(
        len(tensors["visual.attnpool.positional_embedding"]) - 1,
        "visual.attnpool.positional_embedding",
    )
    layers = tuple(_depth(tensors, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
    return ResNetConfig(grid * 32, layers, len(tensors["visual.layer1.0.conv1.weight"]))


def _text(tensors: dict[str, Tensor], activation: str, is_siglip: bool) -> TextConfig:
    prefix = "text." if "text.token_embedding.weight" in tensors else ""
    vocab_size, width = tensors[f"{prefix}token_embedding.weight"].shape
    blocks = f"{prefix}transformer.resblocks."
    sizes = dict(
        context_length=len(tensors[f"{prefix}positional_embedding"]),
        vocab_size=vocab_size,
        width=width,
        layers=_depth(tensors, blocks),
        mlp_ratio=mlp_ratio(*tensors[f"{blocks}0.mlp.c_fc.weight"].shape),
        activation=activation,
    )
    if not is_siglip:
        if f"{prefix}text_projection" not in tensors:
            raise KeyError(f"{prefix}text_projection")
        return TextConfig(heads=max(1, width // 64), **sizes)
    has_projection = f"{prefix}text_projection.weight" in tensors
    return TextConfig(
        heads=SIGLIP_HEADS.get(width, max(1, width // 64)), **sizes, no_causal_mask=True,
        pool_type="last", norm_eps=1e-6, proj_bias=has_projection,
        proj_type="linear" if has_projection else "none",
        hf_tokenizer_name=siglip_tokenizer_of(vocab_size),
        tokenizer_kwargs={"clean": "canonicalize"},
    )  # fmt: skip


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
